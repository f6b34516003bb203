# Several systems on one corpus, trained with several seeds, in one table. A system is a directory
# conf/systems/NAME of steps, which run in the order of their numbers:
#
#   ORDER-RUN.yaml    a training: $RUN/RUN, its averaged weights $RUN/averaged/RUN
#   ORDER-STEP.sh     anything else, by bash: it writes $RUN/made/STEP, which it is told as $OUT
#   decode.args       what stk-decode is told instead of --checkpoint $RUN/averaged/NAME
#
# RUN is one seed's directory, WORK that of all. Steps read data and vocabularies below WORK. A step
# of one name is the same in every system and runs once a seed. It comes after the steps of its
# system whose outputs (averaged/OTHER, made/OTHER) its files name.
#
# Source this after recipe.sh; call compare_options before parse_options, compare_ready after it,
# compare_stages last. The recipe defines make_data, which fills $WORK/data, and sets SRC_LANGS and
# TGT_LANGS.

declare -A STEP_FILE=() SYSTEM_STEPS=() GIVEN=()
SRC_LANGS="" TGT_LANGS=""
# For CTC over phonemes: espeak-ng's voice that says the words, or, where the sources have several languages,
# the program that writes a lexicon of manifests (MANIFEST... --out FILE).
VOICE="" LEXICON=""
# stk-data vocab --normalization of transcripts' pieces, where a vocabulary of their own has no capitals.
SRC_NORMALIZATION=""
# The field that translations are scored by besides, such as src_lang.
GROUP_BY=""

# compare_options DEFAULT_SYSTEMS KIND_OF_PIECES SRC_PIECES TGT_PIECES JOINT_PIECES
compare_options() {
    option systems "$1" "directories of conf/systems, such as \"direct costt\", or all"
    option baseline direct "system that the others are compared with; it always runs"
    option seeds 1 "seeds, one training of each step for each, such as \"1 2 3\""
    option updates "" "updates of every training, where not its configuration's; rates fall sooner"
    option minutes "" "longest time of one training"
    option averaged 5 "checkpoints averaged, the newest" int
    option beam 5 "hypotheses kept in decoding" int
    option samples 1000 "bootstrap resamples" int
    option sets test "test sets, files of the corpus"
    option vocab-type "$2" "pieces of the vocabularies" unigram bpe
    option src-pieces "$3" "vocabulary of transcripts" int
    option tgt-pieces "$4" "vocabulary of translations" int
    option joint-pieces "$5" "vocabulary of both in one" int
    option ctc-units pieces "what CTC tells apart in COSTT and LUT" pieces char phonemes
    option given "" "STEP=CHECKPOINT, trained before for all seeds, such as \"wav2vec2=exp/pretraining-full/wav2vec2/last\""
}

# compare_ready WORK_DIRECTORY: checks, then work_in.
compare_ready() {
    local one
    require_program python stk-train stk-decode stk-score stk-data stk-average
    [[ $seeds =~ ^[0-9]+(\ [0-9]+)*$ ]] ||
        die "--seeds takes whole numbers with a space between, not '$seeds'"
    for one in updates minutes; do
        [[ ${!one} =~ ^[0-9]*$ ]] || die "--$one takes a whole number, not '${!one}'"
    done
    [[ $ctc_units != phonemes || -n $VOICE$LEXICON ]] ||
        die "--ctc-units phonemes: no voice for this corpus"
    ((samples > 0 && averaged > 0)) || die "--samples and --averaged are at least 1"
    read_given
    if [[ $systems == all ]]; then systems=$(cd conf/systems && printf '%s ' *); fi
    systems=" $systems "
    systems="$baseline ${systems/ $baseline / }"
    for one in $systems; do read_system "$one"; done
    for one in "${!GIVEN[@]}"; do
        [[ -v STEP_FILE[$one] ]] || die "--given: no step '$one' (there are ${!STEP_FILE[*]})"
    done
    export SIZE=$size
    work_in "$1"
}

# read_given: what --given names, each a checkpoint's directory.
read_given() {
    local one path
    for one in $given; do
        path=$(given_path "${one#*=}")
        [[ $one == *=* && -f $path/model.safetensors ]] ||
            die "--given $one: not STEP=DIRECTORY of a checkpoint"
        GIVEN[${one%%=*}]=$path
    done
}

# read_system NAME: its steps, and the file of each.
read_system() {
    local folder=conf/systems/$1 file name own
    [[ -d $folder ]] || die "--systems: no system '$1' (there are $(cd conf/systems && echo *))"
    [[ -z ${SYSTEM_STEPS[$1]:-} ]] || die "--systems names '$1' twice"
    for file in $(cd "$folder" && printf '%s\n' * | sort -n); do
        if [[ $file == decode.args ]]; then continue; fi
        [[ $file =~ ^[0-9]+-(.+)\.(yaml|sh)$ ]] || die "$folder/$file: names are ORDER-NAME.yaml or .sh"
        name=${BASH_REMATCH[1]}
        STEP_FILE[$name]=$folder/$file
        # One path a step, whichever system asks for it: its marker depends on it.
        for own in conf/systems/"$name"/*-"$name".*; do
            if [[ -f $own ]]; then STEP_FILE[$name]=$own; fi
        done
        SYSTEM_STEPS[$1]+="$name "
    done
    [[ -n ${SYSTEM_STEPS[$1]:-} ]] || die "$folder: no ORDER-NAME.yaml"
}

# vocabulary NAME FILE FIELDS SIZE TAGS: lists of words are one argument.
vocabulary() {
    local how=()
    if [[ $3 == src_text && -n $SRC_NORMALIZATION ]]; then how=(--normalization "$SRC_NORMALIZATION"); fi
    # shellcheck disable=SC2086
    stk-data vocab "$WORK/data/$2" --fields $3 --type "$vocab_type" --size "$4" --tags $5 \
        "${how[@]}" --out "$WORK/vocab/$1"
}

make_vocabularies() {
    vocabulary asr asr-train.jsonl src_text "$src_pieces" "$SRC_LANGS"
    vocabulary src mt-train.jsonl src_text "$src_pieces" ""
    vocabulary tgt mt-train.jsonl tgt_text "$tgt_pieces" "$TGT_LANGS"
    vocabulary joint mt-train.jsonl "src_text tgt_text" "$joint_pieces" \
        "asr ast $SRC_LANGS $TGT_LANGS"
    case $ctc_units in
    pieces) vocabulary ctc asr-train.jsonl src_text "$src_pieces" "" ;;
    char)
        stk-data vocab "$WORK/data/asr-train.jsonl" --fields src_text --type char \
            --out "$WORK/vocab/ctc"
        ;;
    phonemes)
        local manifests=("$WORK"/data/asr-{train,dev}.jsonl) how=(--espeak "$VOICE")
        if [[ -n $LEXICON ]]; then
            python "$LEXICON" "${manifests[@]}" --out "$WORK/vocab/lexicon.txt"
            how=(--lexicon "$WORK/vocab/lexicon.txt")
        fi
        stk-data vocab "${manifests[@]}" --fields src_text --type phoneme "${how[@]}" \
            --out "$WORK/vocab/ctc"
        ;;
    esac
}

# train SEED RUN CONF: one training, then the mean of its newest checkpoints.
train() {
    local limits
    export RUN=$WORK/seed$1
    limits=$(python ../common/facts.py "$3" limits --updates "${updates:-0}" \
        --minutes "${minutes:-0}" --averaged "$averaged")
    # shellcheck disable=SC2086
    measured "$RUN/measured/$2.json" stk-train "$3" "seed=$1" $limits
    average_last "$RUN/$2" "$averaged" "$RUN/averaged/$2"
}

# take SEED STEP CHECKPOINT: what was trained before, maybe by this seed itself.
take() {
    local out=$WORK/seed$1/averaged/$2
    if [[ $out -ef $3 ]]; then return; fi
    rm -rf -- "$out"
    mkdir -p "${out%/*}"
    ln -s "$3" "$out"
}

# make SEED STEP FILE: a step that is no training.
make() {
    export RUN=$WORK/seed$1 SEED=$1 OUT=$WORK/seed$1/made/$2
    measured "$RUN/measured/$2.json" bash -euo pipefail "$3"
}

# decode SEED SYSTEM: every test set.
decode() {
    local name args=conf/systems/$2/decode.args told="--checkpoint \$RUN/averaged/$2"
    export RUN=$WORK/seed$1
    if [[ -f $args ]]; then told=$(<"$args"); fi
    told=${told//'$RUN'/$RUN}
    for name in $sets; do
        require_file "$WORK/data/$name.jsonl"
        # shellcheck disable=SC2086
        measured "$RUN/measured/decode-$2-$name.json" stk-decode $told \
            --manifest "$WORK/data/$name.jsonl" --beam "$beam" \
            --output "$RUN/decoded/$2/$name.jsonl" --summary "$RUN/decoded/$2/$name.json"
    done
}

# field SYSTEM: what it writes, tgt_text or src_text.
field() {
    local last=${SYSTEM_STEPS[$1]% }
    if [[ -f conf/systems/$1/decode.args || ${STEP_FILE[${last##* }]} != *.yaml ]]; then
        echo tgt_text
    else
        python ../common/facts.py "${STEP_FILE[${last##* }]}" field
    fi
}

# score SEED: translations beside the baseline's, resampled by sentence; transcripts where there are.
score() {
    local name one out=$WORK/seed$1 hyps by=() tests
    if [[ -n $GROUP_BY ]]; then by=(--by "$GROUP_BY"); fi
    for name in $sets; do
        hyps=("$out/decoded/$baseline/$name.jsonl")
        for one in $systems; do
            if [[ $one != "$baseline" && $(field "$one") == tgt_text ]]; then
                hyps+=("$out/decoded/$one/$name.jsonl")
            fi
            if [[ $(field "$one") == src_text ]] ||
                grep -q '"transcript": "' "$out/decoded/$one/$name.jsonl"; then
                stk-score --hyp "$out/decoded/$one/$name.jsonl" --ref "$WORK/data/$name.jsonl" \
                    --field src_text --metric wer --json "$out/scores/$name/wer-$one.json"
            fi
        done
        tests=()
        if ((${#hyps[@]} > 1)); then tests=(--bootstrap "$samples"); fi
        stk-score --hyp "${hyps[@]}" --ref "$WORK/data/$name.jsonl" --metric chrf bleu \
            "${tests[@]}" "${by[@]}" --json "$out/scores/$name/translation.json"
    done
}

table() {
    local one steps=()
    for one in $systems; do steps+=("$one=${SYSTEM_STEPS[$one]}"); done
    # shellcheck disable=SC2086
    python ../common/compared.py --work "$WORK" --seeds $seeds --sets $sets \
        --systems "${steps[@]}" --given "${!GIVEN[@]}" --out "$WORK/table.md"
}

# declare_step SEED SYSTEM STEP: its stage, unless another system has declared it.
declare_step() {
    local name=$3-$1 file=${STEP_FILE[$3]} run=$WORK/seed$1 other before=vocab files limits
    [[ -z ${STAGE_NUMBER[$name]:-} ]] || return 0
    if [[ -v GIVEN[$3] ]]; then
        stage 3 "$name" take "$1" "$3" "${GIVEN[$3]}" --after "" \
            --inputs "${GIVEN[$3]}/model.safetensors"
        return
    fi
    files=$(if [[ $file == *.yaml ]]; then conf_files "$file"; else echo "$file"; fi)
    files=${files//$'\n'/ }
    for other in ${SYSTEM_STEPS[$2]}; do
        if [[ $other == "$3" ]]; then break; fi
        # shellcheck disable=SC2086
        if grep -qE "(averaged|made)/$other([^A-Za-z0-9_-]|\$)" $files; then before+=" $other-$1"; fi
    done
    if [[ $file == *.yaml ]]; then
        limits="size averaged updates minutes"
        stage 3 "$name" train "$1" "$3" "$file" --after "$before" --uses "$limits" \
            --inputs "$files" --clears "$run/$3 $run/averaged/$3"
    else
        stage 3 "$name" make "$1" "$3" "$file" --after "$before" --inputs "$files" \
            --clears "$run/made/$3"
    fi
}

# compare_stages CORPUS_INPUTS: all stages; the corpus is made anew where these files change.
compare_stages() {
    local seed one step after scored="" args
    # What a vocabulary of phonemes is made by matters to no other.
    if [[ $ctc_units != phonemes ]]; then LEXICON=""; fi
    stage 1 corpus make_data --inputs "$1" --clears "$WORK/data"
    stage 2 vocab make_vocabularies --uses "vocab-type src-pieces tgt-pieces joint-pieces ctc-units" \
        --inputs "$LEXICON" --clears "$WORK/vocab"
    for seed in $seeds; do
        after=""
        for one in $systems; do
            for step in ${SYSTEM_STEPS[$one]}; do declare_step "$seed" "$one" "$step"; done
            args=conf/systems/$one/decode.args
            stage 4 "decode-$one-$seed" decode "$seed" "$one" --uses "beam sets" \
                --after "$(printf "%s-$seed " ${SYSTEM_STEPS[$one]})" \
                --inputs "$(if [[ -f $args ]]; then echo "$args"; fi)" \
                --clears "$WORK/seed$seed/decoded/$one"
            after+=" decode-$one-$seed"
        done
        stage 5 "score-$seed" score "$seed" --uses "samples baseline systems sets" \
            --after "$after" --clears "$WORK/seed$seed/scores"
        scored+=" score-$seed"
    done
    stage 6 table table --uses "seeds systems baseline given" --inputs ../common/compared.py \
        --after "$scored"
}
