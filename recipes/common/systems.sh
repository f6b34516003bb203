# Recipes that train systems: conf/<system>/<order>-<run>.yaml, one file a run. Source it after
# recipe.sh; call system_options before parse_options, system_ready after it, system_stages last.
#
# A run has one name in every system, and one output: $WORK/<run>. A recogniser that several systems
# start from is trained once. The recipe sets for each test set its name in TEST_SETS, and the
# manifest fields that its scores are grouped by in GROUP_BY.

declare -a TEST_SETS=() RUNS=()
declare -A RUN_CONF=()
GROUP_BY=""
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
    option beam 5 "hypotheses kept in decoding" int
    option averaged 10 "checkpoints averaged, the newest" int
    option updates "" "updates of a run, where not the configuration's" int
    option seed 1 "of the trainings" int
    option vocab side "a vocabulary for each side of translation, or one for both" side joint
    option vocab-type "$2" "pieces of the vocabularies" unigram char
    option coverage 1.0 "share of characters that unigram pieces cover"
    option asr-pieces 0 "vocabulary of recognition; 0: 5000, or 64 at size tiny" int
    option pieces 0 "vocabulary of translation; 0: 8000, or 72 at size tiny" int
}

# system_ready WORK_DIRECTORY: checks, then work_in.
system_ready() {
    local conf order name
    require_program python stk-train stk-decode stk-score stk-data stk-average
    if ((nproc == 0)); then
        nproc=1
        if command -v nvidia-smi >/dev/null; then nproc=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true); fi
        ((nproc > 0)) || nproc=1
    fi
    if [[ $size == tiny ]]; then
        ((asr_pieces > 0)) || asr_pieces=64
        ((pieces > 0)) || pieces=72
    fi
    ((asr_pieces > 0)) || asr_pieces=5000
    ((pieces > 0)) || pieces=8000
    for conf in "conf/$system"/*.yaml; do
        name=$(basename "$conf" .yaml)
        order=${name%%-*} name=${name#*-}
        [[ $order =~ ^[0-9]+$ ]] || die "$conf: names are ORDER-RUN.yaml"
        RUNS+=("$name")
        # One path a run, whichever system asks for it: its marker depends on it.
        RUN_CONF[$name]=$conf
        if [[ -f conf/$name/$order-$name.yaml ]]; then RUN_CONF[$name]=conf/$name/$order-$name.yaml; fi
    done
    export SIZE=$size
    work_in "$1"
    export RUN=$WORK
}

make_vocabularies() {
    local kind=(--type "$vocab_type" --coverage "$coverage") data=$WORK/data
    # shellcheck disable=SC2086
    stk-data vocab "$data/asr-train.jsonl" --fields src_text --size "$asr_pieces" "${kind[@]}" \
        --tags $SRC_TAGS --out "$WORK/vocab/asr"
    if [[ $vocab == joint ]]; then
        # shellcheck disable=SC2086
        stk-data vocab "$data/mt-train.jsonl" --fields src_text tgt_text --size "$pieces" \
            "${kind[@]}" --tags $TGT_TAGS --out "$WORK/vocab/tgt"
        cp -r "$WORK/vocab/tgt" "$WORK/vocab/src"
    else
        stk-data vocab "$data/mt-train.jsonl" --fields src_text --size "$pieces" "${kind[@]}" \
            --out "$WORK/vocab/src"
        # shellcheck disable=SC2086
        stk-data vocab "$data/mt-train.jsonl" --fields tgt_text --size "$pieces" "${kind[@]}" \
            --tags $TGT_TAGS --out "$WORK/vocab/tgt"
    fi
}

# train RUN CONF: one training; the global batch is the configuration's, whatever nproc is.
train() {
    local steps command=(stk-train) more=()
    steps=$(python ../common/facts.py "$2" accumulate --processes "$nproc")
    if ((nproc > 1)); then
        command=(python -m torch.distributed.run --standalone --nproc-per-node "$nproc"
            -m stk.cli.train)
    fi
    if [[ -n $launcher ]]; then
        read -ra command <<<"$launcher"
        command+=(-m stk.cli.train)
    fi
    if [[ -n $updates ]]; then more=("training.max_updates=$updates"); fi
    command+=("$2" "seed=$seed" "training.accumulate=$steps" "checkpoint.keep_last=$averaged"
        "${more[@]}")
    # What every node runs, should they have to be started by hand.
    echo "in $PWD: WORK=$WORK SIZE=$SIZE PREFIX=$PREFIX ASR_PREFIX=$ASR_PREFIX ${command[*]}"
    measured "$WORK/measured/$1.json" "${command[@]}"
    average_last "$WORK/$1" "$averaged" "$WORK/averaged/$1"
}

# decode RUN CONF: every test set.
decode() {
    local name field manifest
    field=$(python ../common/facts.py "$2" field)
    for name in "${TEST_SETS[@]}"; do
        manifest=$WORK/data/$name.jsonl
        if [[ $field == src_text ]]; then manifest=$WORK/data/asr-$name.jsonl; fi
        if [[ ! -f $manifest ]]; then
            log "$1: the corpus has no $name"
            continue
        fi
        measured "$WORK/measured/decode-$1-$name.json" stk-decode \
            --checkpoint "$WORK/averaged/$1" --manifest "$manifest" --beam "$beam" \
            --output "$WORK/decoded/$1/$name.jsonl" --summary "$WORK/decoded/$1/$name.json"
    done
}

# score RUN CONF: BLEU and chrF of translations, WER of transcripts, in all and by GROUP_BY.
score() {
    local name field by=$GROUP_BY metrics=(bleu chrf) prefix="" tokenise=("${TOKENISE[@]}")
    field=$(python ../common/facts.py "$2" field)
    if [[ $field == src_text ]]; then metrics=(wer) prefix=asr- by=src_lang tokenise=(); fi
    for name in "${TEST_SETS[@]}"; do
        if [[ ! -f $WORK/decoded/$1/$name.jsonl ]]; then continue; fi
        stk-score --hyp "$WORK/decoded/$1/$name.jsonl" --ref "$WORK/data/$prefix$name.jsonl" \
            --field "$field" --metric "${metrics[@]}" --by "$by" "${tokenise[@]}" \
            --json "$WORK/scores/$1/$name.json"
        if [[ $field == tgt_text ]]; then score_more "$1" "$name"; fi
    done
}

table() {
    python ../common/published_table.py --scores "$WORK/scores" --runs "${RUNS[@]}" --size "$size" \
        --published local/published.json --out "$WORK/table-$system.md" \
        --language "$PUBLISHED_NAME" ${ASR_NAME:+--asr-language "$ASR_NAME"}
}

# system_stages NUMBER: vocabularies, then each run's training, decoding and scores, then the table.
# A run comes after those of its system whose averaged weights its configuration names.
system_stages() {
    local number=$1 run other conf before files scored=""
    stage "$number" vocab make_vocabularies --after statistics --clears "$WORK/vocab" \
        --uses "vocab vocab-type coverage asr-pieces pieces"
    for run in "${RUNS[@]}"; do
        conf=${RUN_CONF[$run]} before=vocab
        for other in "${RUNS[@]}"; do
            if grep -q "averaged/$other\$" "$conf"; then before+=" $other"; fi
        done
        files=$(conf_files "$conf")
        stage $((number + 1)) "$run" train "$run" "$conf" --after "$before" \
            --uses "size nproc averaged updates seed" --inputs "${files//$'\n'/ }" \
            --clears "$WORK/$run $WORK/averaged/$run"
        stage $((number + 2)) "decode-$run" decode "$run" "$conf" --uses beam \
            --after "$run" --clears "$WORK/decoded/$run"
        stage $((number + 3)) "score-$run" score "$run" "$conf" --clears "$WORK/scores/$run"
        scored+=" score-$run"
    done
    stage $((number + 4)) "table-$system" table --after "$scored" \
        --inputs "../common/published_table.py local/published.json"
}
