# What every recipe's run.sh shares: options, stages with markers, checks, a log. Source it:
#
#   source "$(dirname "${BASH_SOURCE[0]}")/../common/recipe.sh"
#   describe "One line that --help prints."
#   option size full "how much is made" full tiny        # name, default, meaning, allowed values
#   parse_options "$@"                                   # sets $size, $stage, $stop_stage, ...
#   work_in "exp/$size"                 # markers and run.log live here; conf/*.yaml may read $WORK
#   require_file "conf/$size.yaml"
#   stage 1 corpus make_corpus --uses "size" --inputs "local/*.py" --clears "data/$size"
#   stage 2 train  train_model --inputs "conf/$size.yaml" --clears "exp/$size/st"
#   run_stages
#
# A stage is a bash function. Its marker remembers a hash of the function, its arguments, the
# options it uses, the content of its inputs and the hashes of the stages it comes after (by
# default the one declared before it). A stage whose marker fits is skipped; a changed option or
# input redoes it and all that depends on it. A stage that was killed is called again with
# what it had written still there, so that training goes on from its last checkpoint; a stage that
# starts anew first has its --clears paths removed.

set -euo pipefail

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    echo "error: bash 4.4 or later is needed, this is $BASH_VERSION" >&2
    exit 1
fi

CALLED_FROM=$PWD
RECIPES=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$(dirname "$(realpath "${BASH_SOURCE[-1]}")")"
export PYTHONPATH="$RECIPES/common${PYTHONPATH:+:$PYTHONPATH}"
if [[ -z ${VIRTUAL_ENV:-} && -d $RECIPES/../.venv/bin ]]; then
    PATH=$(cd "$RECIPES/../.venv/bin" && pwd):$PATH
fi

declare -a OPTION_NAMES=() STAGE_NAMES=()
declare -A OPTION_DEFAULT=() OPTION_MEANING=() OPTION_ALLOWED=()
declare -A STAGE_NUMBER=() STAGE_CALL=() STAGE_USES=() STAGE_INPUTS=() STAGE_AFTER=() \
    STAGE_CLEARS=() STAGE_HASH=()
DESCRIPTION=""
WORK=""

# die MESSAGE: one line on standard error, exit 1.
die() {
    echo "error: $*" >&2
    exit 1
}

# log MESSAGE: a line with the time on standard output and in the recipe's run.log.
log() {
    local line
    line="$(date '+%F %T') $*"
    echo "$line"
    if [[ -n $WORK ]]; then echo "$line" >>"$WORK/run.log"; fi
}

# describe TEXT: what --help says first.
describe() { DESCRIPTION=$*; }

# option NAME DEFAULT MEANING [ALLOWED...]: --NAME VALUE sets $NAME (dashes become underscores).
# One allowed word "int" takes whole numbers; none takes anything.
option() {
    OPTION_NAMES+=("$1")
    OPTION_DEFAULT[$1]=$2
    OPTION_MEANING[$1]=$3
    OPTION_ALLOWED[$1]=${*:4}
    printf -v "${1//-/_}" '%s' "$2"
}

option stage 0 "first stage to run, by number or name"
option stop-stage "" "last stage to run, by number or name"
option force no "run stages again although nothing changed" no yes
option list no "list the stages and which are done, run none" no yes

usage() {
    local name
    echo "usage: ${BASH_SOURCE[-1]##*/} [options]"
    if [[ -n $DESCRIPTION ]]; then echo "$DESCRIPTION"; fi
    for name in "${OPTION_NAMES[@]}"; do
        printf '  --%-12s %s (default: %s%s)\n' "$name" "${OPTION_MEANING[$name]}" \
            "${OPTION_DEFAULT[$name]:-none}" "${OPTION_ALLOWED[$name]:+; ${OPTION_ALLOWED[$name]}}"
    done
}

# parse_options "$@": --name value or --name=value; --help; switches (no|yes) may stand alone.
parse_options() {
    local name value
    while (($#)); do
        [[ $1 == --help || $1 == -h ]] && usage && exit 0
        [[ $1 == --?* ]] || die "argument '$1' is not an option (--help lists them)"
        name=${1#--}
        name=${name%%=*}
        [[ -v OPTION_DEFAULT[$name] ]] || die "unknown option --$name (known: ${OPTION_NAMES[*]/#/--})"
        if [[ $1 == *=* ]]; then
            value=${1#*=}
        elif [[ ${OPTION_ALLOWED[$name]} == "no yes" && ${2:-} != yes && ${2:-} != no ]]; then
            value=yes
        else
            (($# > 1)) || die "--$name needs a value"
            value=$2
            shift
        fi
        shift
        check_value "$name" "$value"
        printf -v "${name//-/_}" '%s' "$value"
    done
}

# check_value NAME VALUE: dies unless the option may have this value.
check_value() {
    local allowed=${OPTION_ALLOWED[$1]}
    if [[ $allowed == int ]]; then
        [[ $2 =~ ^[0-9]+$ ]] || die "--$1 takes a whole number, not '$2'"
    elif [[ -n $allowed ]]; then
        [[ " $allowed " == *" $2 "* && -n $2 ]] || die "--$1 takes one of: $allowed, not '$2'"
    fi
}

# require_program NAME...: dies unless each is on PATH.
require_program() {
    local name
    for name; do
        command -v "$name" >/dev/null || die "$name is not on PATH (run: make install)"
    done
}

# require_file PATH...: dies unless each is a readable file.
require_file() {
    local path
    for path; do [[ -f $path && -r $path ]] || die "$PWD/$path: no such file"; done
}

# given_path PATH: absolute; what somebody typed is relative to where run.sh was called from.
given_path() { (cd "$CALLED_FROM" && realpath -m "$1"); }

# require_space DIRECTORY MEGABYTES: dies unless so much is free where DIRECTORY (made) lies.
require_space() {
    local free
    mkdir -p "$1"
    free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    ((free >= $2)) || die "$1: $free MB are free, $2 MB are needed"
}

# work_in DIRECTORY: where markers and run.log go; held by one run.sh at a time.
work_in() {
    WORK=$1
    mkdir -p "$WORK/.stages"
    [[ -w $WORK ]] || die "$WORK: not writable"
    export WORK
    exec {WORK_LOCK}>"$WORK/.lock"
    flock -n "$WORK_LOCK" || die "$WORK: another run.sh is at work here"
}

# stage NUMBER NAME FUNCTION [ARGUMENT...] [--uses "OPTIONS"] [--inputs "GLOBS"]
#       [--after "STAGES"] [--clears "PATHS"]: declares a stage; run_stages runs it.
# Several stages may share a number (one a seed, say). --after "" makes a stage depend on none.
stage() {
    local number=$1 name=$2 word
    [[ -z ${STAGE_NUMBER[$name]:-} ]] || die "stage $name is declared twice"
    declare -F "$3" >/dev/null || die "stage $name: no function $3"
    STAGE_NUMBER[$name]=$number
    STAGE_CALL[$name]=$3
    STAGE_AFTER[$name]=${STAGE_NAMES[*]: -1}
    STAGE_USES[$name]="" STAGE_INPUTS[$name]="" STAGE_CLEARS[$name]=""
    shift 3
    while (($#)); do
        case $1 in
        --uses) STAGE_USES[$name]=$2 && shift ;;
        --inputs) STAGE_INPUTS[$name]=$2 && shift ;;
        --after) STAGE_AFTER[$name]=$2 && shift ;;
        --clears) STAGE_CLEARS[$name]=$2 && shift ;;
        *) printf -v word ' %q' "$1" && STAGE_CALL[$name]+=$word ;;
        esac
        shift
    done
    for word in ${STAGE_CLEARS[$name]}; do
        [[ $word != /* && $word != *..* && $word != . ]] || die "stage $name may not clear '$word'"
    done
    STAGE_NAMES+=("$name")
}

# hash_stages: fills STAGE_HASH in order of declaration; dies where an input is missing.
hash_stages() {
    local name option before path
    for name in "${STAGE_NAMES[@]}"; do
        for path in ${STAGE_INPUTS[$name]}; do
            [[ -f $path ]] || die "$PWD/$path: no such file (stage $name reads it)"
        done
        STAGE_HASH[$name]=$(
            echo "${STAGE_CALL[$name]}"
            declare -f "${STAGE_CALL[$name]%% *}"
            for option in ${STAGE_USES[$name]}; do
                [[ -v ${option//-/_} ]] || die "stage $name uses an unknown option $option"
                option=${option//-/_}
                echo "$option=${!option}"
            done
            for path in ${STAGE_INPUTS[$name]}; do sha256sum "$path"; done
            for before in ${STAGE_AFTER[$name]}; do
                [[ -v STAGE_HASH[$before] ]] || die "stage $name comes after unknown stage $before"
                echo "${STAGE_HASH[$before]}"
            done
        )
        STAGE_HASH[$name]=$(sha256sum <<<"${STAGE_HASH[$name]}" | cut -d' ' -f1)
    done
}

# stage_done NAME: whether its marker fits.
stage_done() {
    [[ -f $WORK/.stages/$1 && $(head -n1 "$WORK/.stages/$1") == "${STAGE_HASH[$1]}" ]]
}

# stage_number WHAT OPTION: the number of a stage given by number or name.
stage_number() {
    if [[ $1 =~ ^[0-9]+$ ]]; then
        echo "$1"
    elif [[ -n ${STAGE_NUMBER[$1]:-} ]]; then
        echo "${STAGE_NUMBER[$1]}"
    else
        die "$2: no stage '$1' (stages: ${STAGE_NAMES[*]})"
    fi
}

# run_stages: what run.sh ends with. Call it plainly, never behind && or inside if.
run_stages() {
    local name number first last
    [[ -n $WORK ]] || die "run.sh calls work_in before run_stages"
    hash_stages
    first=$(stage_number "$stage" --stage)
    last=$(stage_number "${stop_stage:-999}" --stop-stage)
    if [[ $list == yes ]]; then
        for name in "${STAGE_NAMES[@]}"; do
            stage_done "$name" && number=done || number="to do"
            printf '%3s  %-20s %s\n' "${STAGE_NUMBER[$name]}" "$name" "$number"
        done
        return
    fi
    for name in "${STAGE_NAMES[@]}"; do
        number=${STAGE_NUMBER[$name]}
        if ((number < first)); then
            stage_done "$name" || die "stage $number ($name) is not done with these options (start with --stage $number)"
        fi
    done
    for name in "${STAGE_NAMES[@]}"; do
        number=${STAGE_NUMBER[$name]}
        if ((number < first || number > last)); then continue; fi
        if [[ $force == no ]] && stage_done "$name"; then
            log "stage $number $name: done before, nothing it depends on changed"
        else
            run_stage "$name"
        fi
    done
}

# run_stage NAME: runs it in a shell of its own, then writes its marker.
run_stage() {
    local name=$1 number=${STAGE_NUMBER[$1]} began=$SECONDS status path
    local marker=$WORK/.stages/$name
    if [[ $force == yes || ! -f $marker.begun || $(<"$marker.begun") != "${STAGE_HASH[$name]}" ]]; then
        for path in ${STAGE_CLEARS[$name]}; do rm -rf -- "$path"; done
        log "stage $number $name: begins"
    else
        log "stage $number $name: goes on where it was stopped"
    fi
    rm -f "$marker"
    echo "${STAGE_HASH[$name]}" >"$marker.begun"
    set +e
    (
        set -euo pipefail
        eval "${STAGE_CALL[$name]}"
    )
    status=$?
    set -e
    if ((status != 0)); then
        log "stage $number $name: failed with exit code $status after $((SECONDS - began)) s"
        exit "$status"
    fi
    printf '%s\n%s seconds\n' "${STAGE_HASH[$name]}" "$((SECONDS - began))" >"$marker.part"
    mv "$marker.part" "$marker"
    rm -f "$marker.begun"
    log "stage $number $name: done in $((SECONDS - began)) s"
}

# measured FILE COMMAND...: runs a command; FILE gets its seconds and peak memory as JSON.
measured() { python "$RECIPES/common/measure.py" "$@"; }

# average_last RUN N OUT: the mean of a run's N newest checkpoints; of fewer, said so, where a time
# limit ended the run before it had written as many. What is at OUT is replaced: a stage that was
# killed later than here averages again.
average_last() {
    local found count=$2
    found=$(find "$1/checkpoints" -maxdepth 1 -name 'update-*' | wc -l)
    if ((found < count)); then
        count=$found
        log "$1: averaging $found checkpoints, not $2: the run ended early"
    fi
    rm -rf -- "$3"
    stk-average "$1" --last "$count" --output "$3"
}

# conf_files CONF: it and the files it is built on, by their key base: one file, or a list. Names may
# hold ${oc.env:SIZE,...}, which is the option --size.
conf_files() {
    local base
    [[ -f $1 ]] || die "$PWD/$1: no such file"
    echo "$1"
    sed -n 's/^base: *\(.\)/\1/p; /^base: *$/,/^[^ ]*:/s/^ *- *//p' "$1" |
        sed "s/\\\${oc.env:SIZE,[a-z]*}/${size:-}/g" | while read -r base; do
        conf_files "$(realpath --relative-to=. "$(dirname "$1")/$base")"
    done
}
