#!/usr/bin/env bash
# Systems of speech translation side by side on the demo's corpus, which run.sh makes.
source "$(dirname "${BASH_SOURCE[0]}")/../common/recipe.sh"
source "$RECIPES/common/compare.sh"

describe "Trains the systems of conf/systems on the demo's corpus and prints one table."
option size tiny "corpus, models and trainings" tiny full
option tgt de "language of the translations" de fr es
option processes 2 "programs that speak at once" int
compare_options "direct asr mt direct-asr cascade kd costt lut" bpe 0 0 0
parse_options "$@"

# pieces TINY FULL OPTION: its value where none was given.
pieces() {
    local -n value=$3
    if ((value == 0)); then value=$(if [[ $size == tiny ]]; then echo "$1"; else echo "$2"; fi); fi
}
pieces 80 200 src_pieces
pieces 120 120 tgt_pieces
pieces 160 240 joint_pieces
SRC_LANGS=en
VOICE=en-us
TGT_LANGS=$tgt
compare_ready "exp/systems-$size-$tgt"

make_data() {
    local corpus=exp/$size-$tgt/data name
    bash run.sh --size "$size" --tgt "$tgt" --processes "$processes" --stop-stage corpus
    mkdir -p "$WORK/data"
    for name in "$corpus"/*.jsonl; do
        ln -sf "$(realpath "$name")" "$WORK/data/$(basename "$name")"
    done
    for name in train dev; do
        ln -sf "$name.jsonl" "$WORK/data/asr-$name.jsonl"
        ln -sf "$name.jsonl" "$WORK/data/mt-$name.jsonl"
    done
}

compare_stages "local/build_corpus.py local/corpus.py local/espeak.py local/flite.py local/slots.py
    local/spelling.py local/templates.py local/voices.py"
run_stages
