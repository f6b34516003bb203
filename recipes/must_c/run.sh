#!/usr/bin/env bash
# MuST-C (Di Gangi et al., 2019): English TED talks to text in eight languages. The corpus is yours to
# download; --data names the directory with en-de, en-fr, ...
source "$(dirname "${BASH_SOURCE[0]}")/../common/recipe.sh"
source "$RECIPES/common/systems.sh"

ALL="de es fr it nl pt ro ru"
describe "Speech translation on MuST-C: recognition, text translation, and both in one model."
option data "" "the corpus as unpacked: the directory that holds en-de/data"
option lang de "target languages: one, several as de,fr, or all (one multilingual model)"
option parallel "" "PREFIX of a parallel corpus PREFIX.en, PREFIX.de for text translation"
system_options st-asr unigram
parse_options "$@"

[[ -n $data ]] || die "--data is needed: the directory that holds en-de, en-fr, ..."
[[ -d $(given_path "$data") ]] || die "--data $data: no such directory"
data=$(given_path "$data")
if [[ -n $parallel ]]; then parallel=$(given_path "$parallel"); fi
langs=$lang
if [[ $lang == all ]]; then langs=$ALL; fi
langs=${langs//,/ }
for one in $langs; do
    [[ " $ALL " == *" $one "* ]] || die "--lang takes ${ALL// /, }, several of them as de,fr, or all"
done
export PREFIX=none ASR_PREFIX=none
if [[ $langs == *" "* ]]; then PREFIX=tgt_lang; fi
SRC_TAGS=en
TGT_TAGS=$langs
TEST_SETS=(tst-COMMON tst-HE)
GROUP_BY=tgt_lang
if [[ $langs != *" "* ]]; then ASR_NAME=$langs; fi
system_ready "exp/${lang//,/-}-$size"

# What the corpus' texts are now: where one changes, everything is done again.
corpus=$(find -L "$data" -path '*/txt/*' -printf '%P %s %T@\n' | sort | sha256sum)

check() {
    # shellcheck disable=SC2086
    measured "$WORK/measured/check.json" python local/prepare.py --data "$data" --langs $langs \
        --out "$WORK/data" ${parallel:+--parallel "$parallel"}
}

statistics() {
    python ../common/corpus_statistics.py --data "$WORK/data" --published local/published.json \
        --sets train dev tst-COMMON tst-HE
}

stage 0 check check --uses "data corpus langs parallel" --clears "$WORK/data" \
    --inputs "local/prepare.py local/segments.py ../common/faults.py"
stage 0 statistics statistics --inputs "../common/corpus_statistics.py local/published.json"
system_stages 1
run_stages
