# Recipes that train systems: conf/SYSTEM is a directory of steps, which run in the order of their numbers:
#
#   ORDER-RUN.yaml    a training: $WORK/RUN, its averaged weights $WORK/averaged/RUN
#   ORDER-STEP.sh     anything else, by bash: it writes $WORK/made/STEP, which it is told as $OUT
#   decode.args       what stk-decode is told of the system, where --checkpoint $RUN/averaged/SYSTEM
#                     alone is not it
#
# Source it after recipe.sh; call system_options before parse_options, system_ready after it,
# system_stages last.
#
# A step has one name in every system, and one output. A recogniser that several systems start from is
# trained once. A step comes after those of its system whose outputs (averaged/OTHER, made/OTHER) its
# files name. The recipe sets for each test set its name in TEST_SETS, the manifest fields that its
# scores are grouped by in GROUP_BY, and in SRC_TAGS and TGT_TAGS the languages of both sides.

declare -a TEST_SETS=() STEPS=() RUNS=()
declare -A STEP_FILE=()
GROUP_BY="" SRC_TAGS="" TGT_TAGS=""
# How local/published.json names a language of GROUP_BY, and recognition's where it is another.
PUBLISHED_NAME="{}" ASR_NAME=""
# What stk-score is told of BLEU's tokeniser; by default it goes by the language.
declare -a TOKENISE=()
# score_more RUN SET: further scores of a translation; a recipe may define its own.
score_more() { :; }

# system_options DEFAULT_SYSTEM VOCABULARY_KIND
system_options() {
    local names
    names=$(cd conf && printf '%s\n' */ | tr -d / | tr '\n' ' ')
    option system "$1" "a directory of conf/" ${names% }
    option size s "of the models" tiny s m
    option nproc 0 "processes of training; 0: one a GPU, one without" int
    option launcher "" "what starts training on several nodes, such as \"srun torchrun ...\""
    option beam 0 "hypotheses kept in decoding; 0: as the system's paper has it, else 5" int
    option averaged 10 "checkpoints averaged, the newest" int
    option updates "" "updates of a run, where not the configuration's" int
    option seed 1 "of the trainings" int
    option vocab side "a vocabulary for each side of translation, or one for both" side joint
    option vocab-type "$2" "pieces of the vocabularies" unigram char
    option coverage 1.0 "share of characters that unigram pieces cover"
    option asr-pieces 0 "vocabulary of recognition; 0: 5000, or 64 at size tiny" int
    option pieces 0 "vocabulary of translation; 0: 8000, or 72 at size tiny" int
    option joint-pieces 0 "vocabulary of systems with one for both; 0: 10000, or 100 at tiny" int
    option ctc-units pieces "what CTC tells apart in costt and lut" pieces char phonemes
    option wav2vec2 "" "a released wav2vec 2.0, a Hugging Face directory; or train"
    option bert "" "a released BERT, a Hugging Face directory, for lut; or train"
    option unlabelled "" "MANIFEST of sound that self-training labels; the training recordings"
}

# system_ready WORK_DIRECTORY: checks, then work_in.
system_ready() {
    require_program python stk-train stk-decode stk-score stk-data stk-average
    if ((nproc == 0)); then
        nproc=1
        if command -v nvidia-smi >/dev/null; then nproc=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true); fi
        ((nproc > 0)) || nproc=1
    fi
    ((averaged > 0)) || die "--averaged is at least 1"
    if [[ $size == tiny ]]; then
        ((asr_pieces > 0)) || asr_pieces=64
        ((pieces > 0)) || pieces=72
        ((joint_pieces > 0)) || joint_pieces=100
    fi
    ((asr_pieces > 0)) || asr_pieces=5000
    ((pieces > 0)) || pieces=8000
    ((joint_pieces > 0)) || joint_pieces=10000
    [[ $system != costt || $TGT_TAGS != *" "* ]] ||
        die "--system costt writes one language, not ${TGT_TAGS// /, }"
    [[ $ctc_units != phonemes || $SRC_TAGS != *" "* ]] ||
        die "--ctc-units phonemes: espeak-ng says the words of one language, not ${SRC_TAGS// /, }"
    read_steps
    check_released
    check_unlabelled
    export SIZE=$size
    work_in "$1"
    export RUN=$WORK PROCESSES=$nproc TGT_TAGS UNLABELLED=${unlabelled:-$WORK/data/asr-train.jsonl}
}

# read_steps: the steps of the system and the file of each. A file of one line, base: OTHER or source
# OTHER, is the other: one path a step, whichever system asks for it, since its marker depends on it.
read_steps() {
    local file name path
    for file in $(cd "conf/$system" && printf '%s\n' * | sort -n); do
        if [[ $file == decode.args ]]; then continue; fi
        [[ $file =~ ^[0-9]+-(.+)\.(yaml|sh)$ ]] ||
            die "conf/$system/$file: names are ORDER-NAME.yaml or ORDER-NAME.sh"
        name=${BASH_REMATCH[1]} path=conf/$system/$file
        if [[ $(<"$path") =~ ^base:\ ([^[:space:]]+)$ ]]; then
            path=$(realpath --relative-to=. "conf/$system/${BASH_REMATCH[1]}")
        elif [[ $(<"$path") =~ ^source\ ([^[:space:]]+)$ ]]; then
            path=${BASH_REMATCH[1]}
        fi
        STEPS+=("$name")
        STEP_FILE[$name]=$path
    done
}

# released RUN: the option that may name a released model instead of training this run.
released() {
    case $1 in
    wav2vec2 | wav2vec2-large) echo wav2vec2 ;;
    bert) echo bert ;;
    esac
}

# check_released: at sizes s and m somebody has to say where a big model comes from.
check_released() {
    local step name
    for step in "${STEPS[@]}"; do
        name=$(released "$step")
        if [[ -z $name ]]; then continue; fi
        if [[ -z ${!name} ]]; then
            [[ $size == tiny ]] ||
                die "--system $system at size $size starts from a released model: --$name DIR (or --$name train, on the corpus itself)"
            printf -v "$name" train
        elif [[ ${!name} != train ]]; then
            [[ -e $(given_path "${!name}") ]] || die "--$name ${!name}: no such file or directory"
            printf -v "$name" '%s' "$(given_path "${!name}")"
        fi
    done
}

# check_unlabelled: the manifest is there, and a step reads it; its size and time, to see it change.
check_unlabelled() {
    unlabelled_seen=""
    if [[ -z $unlabelled ]]; then return; fi
    [[ -v STEP_FILE[pseudo] ]] || die "--unlabelled: --system $system labels no sound"
    [[ -f $(given_path "$unlabelled") ]] || die "--unlabelled $unlabelled: no such file"
    unlabelled=$(given_path "$unlabelled")
    unlabelled_seen=$(stat -Lc '%s %Y' "$unlabelled")
}

# vocabulary NAME KIND SIZE TAGS FIELDS...: one of $WORK/vocab, from the pairs of training.
vocabulary() {
    local name=$1 kind=$2 count=$3 tags=$4 how=()
    shift 4
    if [[ $kind == unigram ]]; then how=(--size "$count" --coverage "$coverage"); fi
    # shellcheck disable=SC2086
    stk-data vocab "$WORK/data/mt-train.jsonl" --fields "$@" --type "$kind" "${how[@]}" \
        --tags $tags --out "$WORK/vocab/$name"
}

make_vocabularies() {
    local how=()
    if [[ $vocab_type == unigram ]]; then how=(--size "$asr_pieces" --coverage "$coverage"); fi
    # shellcheck disable=SC2086
    stk-data vocab "$WORK/data/asr-train.jsonl" --fields src_text --type "$vocab_type" "${how[@]}" \
        --tags $SRC_TAGS --out "$WORK/vocab/asr"
    if [[ $vocab == joint ]]; then
        vocabulary tgt "$vocab_type" "$pieces" "$TGT_TAGS" src_text tgt_text
        cp -r "$WORK/vocab/tgt" "$WORK/vocab/src"
    else
        vocabulary src "$vocab_type" "$pieces" "" src_text
        vocabulary tgt "$vocab_type" "$pieces" "$TGT_TAGS" tgt_text
    fi
}

# One of both languages, with a tag for each language and for COSTT's two texts.
make_joint_vocabulary() {
    vocabulary joint "$vocab_type" "$joint_pieces" "asr ast $(every_language)" src_text tgt_text
}

every_language() { printf '%s\n' $SRC_TAGS $TGT_TAGS | sort -u | tr '\n' ' '; }

make_ctc_units() {
    case $ctc_units in
    pieces) vocabulary ctc "$vocab_type" "$asr_pieces" "" src_text ;;
    char) vocabulary ctc char 0 "" src_text ;;
    phonemes)
        stk-data vocab "$WORK"/data/asr-{train,dev}.jsonl --fields src_text --type phoneme \
            --espeak "${SRC_TAGS/#en/en-us}" --out "$WORK/vocab/ctc"
        ;;
    esac
}

# train RUN CONF: one training; the global batch is the configuration's, whatever nproc is.
train() {
    local facts command=(stk-train) more=()
    facts=$(python ../common/facts.py "$2" accumulate --processes "$nproc")
    if ((nproc > 1)); then
        command=(python -m torch.distributed.run --standalone --nproc-per-node "$nproc"
            -m stk.cli.train)
    fi
    if [[ -n $launcher ]]; then
        read -ra command <<<"$launcher"
        command+=(-m stk.cli.train)
    fi
    if [[ -n $updates ]]; then more=("training.max_updates=$updates"); fi
    command+=("$2" "seed=$seed" "training.accumulate=$facts" "checkpoint.keep_last=$averaged"
        "${more[@]}")
    # What every node runs, should they have to be started by hand.
    echo "in $PWD: WORK=$WORK RUN=$RUN SIZE=$SIZE PREFIX=$PREFIX ASR_PREFIX=$ASR_PREFIX ${command[*]}"
    measured "$WORK/measured/$1.json" "${command[@]}"
    average_last "$WORK/$1" "$averaged" "$WORK/averaged/$1"
}

# take RUN: a released model instead of a training.
take() {
    mkdir -p "$WORK/averaged"
    case $1 in
    bert) ln -sfn "$bert" "$WORK/averaged/bert" ;;
    *) stk-data import "$wav2vec2" --ignore lm_head. --out "$WORK/averaged/$1" ;;
    esac
}

# make STEP FILE: a step that is no training.
make() {
    export OUT=$WORK/made/$1
    measured "$WORK/measured/$1.json" bash -euo pipefail "$2"
}

# decode RUN FIELD: every test set.
decode() {
    local name manifest args=conf/$1/decode.args told="--checkpoint \$RUN/averaged/$1" more=()
    if [[ -f $args ]]; then told=$(<"$args"); fi
    told=${told//'$RUN'/$RUN}
    if ((beam > 0)); then more=(--beam "$beam"); fi
    for name in "${TEST_SETS[@]}"; do
        manifest=$WORK/data/$name.jsonl
        if [[ $2 == src_text ]]; then manifest=$WORK/data/asr-$name.jsonl; fi
        if [[ ! -f $manifest ]]; then
            log "$1: the corpus has no $name"
            continue
        fi
        # shellcheck disable=SC2086
        measured "$WORK/measured/decode-$1-$name.json" stk-decode $told --manifest "$manifest" \
            "${more[@]}" --output "$WORK/decoded/$1/$name.jsonl" \
            --summary "$WORK/decoded/$1/$name.json"
    done
}

# score RUN FIELD: BLEU and chrF of translations, WER of transcripts, in all and by GROUP_BY.
score() {
    local name hyp by=$GROUP_BY metrics=(bleu chrf) prefix="" tokenise=("${TOKENISE[@]}")
    if [[ $2 == src_text ]]; then metrics=(wer) prefix=asr- by=src_lang tokenise=(); fi
    for name in "${TEST_SETS[@]}"; do
        hyp=$WORK/decoded/$1/$name.jsonl
        if [[ ! -f $hyp ]]; then continue; fi
        stk-score --hyp "$hyp" --ref "$WORK/data/$prefix$name.jsonl" --field "$2" \
            --metric "${metrics[@]}" --by "$by" "${tokenise[@]}" --json "$WORK/scores/$1/$name.json"
        if [[ $2 == src_text ]]; then continue; fi
        # Cascades and COSTT say what they heard, too.
        if grep -q '"transcript": "' "$hyp"; then
            stk-score --hyp "$hyp" --ref "$WORK/data/$name.jsonl" --field src_text --metric wer \
                --by src_lang --json "$WORK/scores/$1/$name-wer.json"
        fi
        score_more "$1" "$name"
    done
}

table() {
    python ../common/published_table.py --scores "$WORK/scores" --runs "${RUNS[@]}" --size "$size" \
        --published local/published.json --out "$WORK/table-$system.md" \
        --language "$PUBLISHED_NAME" ${ASR_NAME:+--asr-language "$ASR_NAME"}
}

# step_files FILE: it and what it is built on.
step_files() {
    if [[ $1 == *.yaml ]]; then
        conf_files "$1"
    else
        echo "$1"
        sed -n 's/^source //p' "$1"
    fi
}

# vocabularies_of FILES: the stages that make the vocabularies which they name.
vocabularies_of() {
    local name found=vocab
    for name in joint ctc; do
        # shellcheck disable=SC2086
        if grep -q "vocab/$name\"" $1 || grep -q "vocab/$name\$" $1; then found+=" vocab-$name"; fi
    done
    echo "$found"
}

# declare_step NUMBER STEP FIELD: a training with decoding and scores where FIELD, what it writes, is a
# text and not none; or another step.
declare_step() {
    local number=$1 file=${STEP_FILE[$2]} other before files uses="size nproc averaged updates seed"
    files=$(step_files "$file")
    files=${files//$'\n'/ }
    before=$(vocabularies_of "$files")
    for other in "${STEPS[@]}"; do
        if [[ $other == "$2" ]]; then break; fi
        # shellcheck disable=SC2086
        if grep -qE "(averaged|made)/$other([^A-Za-z0-9_-]|\$)" $files; then before+=" $other"; fi
    done
    if [[ $file == *.sh ]]; then
        # shellcheck disable=SC2086
        if grep -q UNLABELLED $files; then uses="unlabelled unlabelled-seen"; else uses=""; fi
        stage "$number" "$2" make "$2" "$file" --after "$before" --inputs "$files" --uses "$uses" \
            --clears "$WORK/made/$2"
        return
    fi
    other=$(released "$2")
    if [[ -n $other && ${!other} != train ]]; then
        stage "$number" "$2" take "$2" --after "" --uses "$other" --clears "$WORK/averaged/$2"
        return
    fi
    stage "$number" "$2" train "$2" "$file" --after "$before" --uses "$uses" --inputs "$files" \
        --clears "$WORK/$2 $WORK/averaged/$2"
    if [[ $3 != none ]]; then declare_decoding "$((number + 1))" "$2" "$3" "$2"; fi
}

# declare_decoding NUMBER RUN FIELD AFTER
declare_decoding() {
    local args=conf/$2/decode.args
    stage "$1" "decode-$2" decode "$2" "$3" --uses beam --after "$4" \
        --inputs "$(if [[ -f $args ]]; then echo "$args"; fi)" --clears "$WORK/decoded/$2"
    stage "$(($1 + 1))" "score-$2" score "$2" "$3" --clears "$WORK/scores/$2"
    RUNS+=("$2")
}

# system_stages NUMBER: vocabularies, then every step, decoding and scores, then the table.
system_stages() {
    local number=$1 step confs=() fields=()
    stage "$number" vocab make_vocabularies --after statistics \
        --clears "$WORK/vocab/asr $WORK/vocab/src $WORK/vocab/tgt" \
        --uses "vocab vocab-type coverage asr-pieces pieces"
    declare_vocabulary "$number" joint make_joint_vocabulary "vocab-type coverage joint-pieces"
    declare_vocabulary "$number" ctc make_ctc_units "vocab-type coverage asr-pieces ctc-units"
    for step in "${STEPS[@]}"; do
        if [[ ${STEP_FILE[$step]} == *.yaml ]]; then confs+=("${STEP_FILE[$step]}"); fi
    done
    read -ra fields <<<"$(python ../common/facts.py "${confs[@]}" field | tr '\n' ' ')"
    ((${#fields[@]} == ${#confs[@]})) || exit 1
    for step in "${STEPS[@]}"; do
        if [[ ${STEP_FILE[$step]} == *.yaml ]]; then
            declare_step "$((number + 1))" "$step" "${fields[0]}"
            fields=("${fields[@]:1}")
        else
            declare_step "$((number + 1))" "$step" none
        fi
    done
    # A cascade has no training of its own.
    if [[ ! -v STEP_FILE[$system] ]]; then
        declare_decoding "$((number + 2))" "$system" tgt_text "${STEPS[*]}"
    fi
    stage "$((number + 4))" "table-$system" table --after "$(printf 'score-%s ' "${RUNS[@]}")" \
        --inputs "../common/published_table.py local/published.json"
}

# declare_vocabulary NUMBER NAME FUNCTION OPTIONS: a stage, where a step of the system needs it.
declare_vocabulary() {
    local step
    for step in "${STEPS[@]}"; do
        if [[ " $(vocabularies_of "$(step_files "${STEP_FILE[$step]}")") " == *" vocab-$2 "* ]]; then
            stage "$1" "vocab-$2" "$3" --after statistics --uses "$4" --clears "$WORK/vocab/$2"
            return
        fi
    done
}
