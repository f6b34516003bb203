#!/usr/bin/env bash
# Systems of speech translation side by side on human recordings in eight languages, which run.sh
# fetches and prepares.
source "$(dirname "${BASH_SOURCE[0]}")/../common/recipe.sh"
source "$RECIPES/common/compare.sh"

describe "Trains the systems of conf/systems on Tux Paint's stamps and prints one table."
option size full "models and trainings" tiny full
option processes 2 "sound files converted at once" int
compare_options "direct asr mt direct-asr cascade kd costt lut" bpe 200 150 400
parse_options "$@"

SRC_LANGS="fr es ca ro ru bg be el"
TGT_LANGS=en
# Two hours of speech in three scripts: few pieces and no capitals, so that each is heard often.
SRC_NORMALIZATION=nmt_nfkc_cf
GROUP_BY=src_lang
LEXICON=local/lexicon.py
export ASR_PREFIX=src_lang
compare_ready "exp/systems-$size"

make_data() {
    local name
    bash run.sh --processes "$processes" --stop-stage prepare
    mkdir -p "$WORK/data"
    for name in train dev test; do
        ln -sf "$(realpath "exp/data/$name.jsonl")" "$WORK/data/$name.jsonl"
    done
    for name in train dev; do
        ln -sf "$name.jsonl" "$WORK/data/asr-$name.jsonl"
        ln -sf "$name.jsonl" "$WORK/data/mt-$name.jsonl"
    done
}

compare_stages "local/fetch.py local/prepare.py local/split.py local/stamps.py"
run_stages
