#!/usr/bin/env bash
# CoVoST 2 (Wang et al., 2020): Common Voice's speech in 21 languages to English, English speech to 15
# languages. Both corpora are yours to download.
source "$(dirname "${BASH_SOURCE[0]}")/../common/recipe.sh"
source "$RECIPES/common/systems.sh"

describe "Speech translation on CoVoST 2: recognition, text translation, and both in one model."
option data "" "CoVoST 2: the directory that holds covost_v2.en_de.tsv, ..."
option cv "" "Common Voice 4: the directory that holds en/clips, en/validated.tsv, fr/..."
option direction en_de "en_de, fr_en, ...; several as fr_en,de_en; x_en or en_x for all"
option cache "" "where clips are kept as FLAC, for all directions; downloads/flac of the recipe"
option tokeniser both "of Chinese and Japanese BLEU: characters, or also sacreBLEU's own" both char
option processes 2 "clips decoded at once" int
system_options st-asr char
parse_options "$@"

[[ -n $data && -n $cv ]] || die "--data (covost_v2.*.tsv) and --cv (Common Voice) are needed"
[[ -d $(given_path "$data") ]] || die "--data $data: no such directory"
[[ -d $(given_path "$cv") ]] || die "--cv $cv: no such directory"
require_program python
data=$(given_path "$data") cv=$(given_path "$cv")
if [[ -z $cache ]]; then cache=$PWD/downloads/flac; else cache=$(given_path "$cache"); fi
directions=$(python local/prepare.py --names --direction "$direction") || exit 1

# The languages of one side, without repetition.
side() { for one in $directions; do cut -d_ -f"$1" <<<"$one"; done | sort -u | tr '\n' ' ' | sed 's/ $//'; }
sources=$(side 1) targets=$(side 2)
export PREFIX=none ASR_PREFIX=none
if [[ $targets == *" "* ]]; then PREFIX=tgt_lang; fi
if [[ $sources == *" "* ]]; then ASR_PREFIX=src_lang; fi
SRC_TAGS=$sources
TGT_TAGS=$targets
TEST_SETS=(test)
if [[ $targets == en ]]; then
    GROUP_BY=src_lang PUBLISHED_NAME="{}_en"
else
    GROUP_BY=tgt_lang PUBLISHED_NAME="en_{}"
fi
if [[ " $targets " == *" ja "* && $tokeniser == both ]] && ! python -c "import MeCab, ipadic" 2>/dev/null; then
    die "Japanese BLEU needs MeCab: pip install 'sacrebleu[ja]', or --tokeniser char"
fi
if [[ $tokeniser == char && ( $targets == ja || $targets == zh-CN ) ]]; then
    TOKENISE=(--tokenise char)
elif [[ $tokeniser == char && " $targets " == *" ja "* ]]; then
    die "--tokeniser char is for one language; several with ja need pip install 'sacrebleu[ja]'"
fi
system_ready "exp/${direction//,/-}-$size"

# What the tables are now: where one changes, everything is done again.
corpus=$(
    for one in $directions; do
        stat -Lc '%s %Y' "$data/covost_v2.$one.tsv" "$cv/${one%_*}/validated.tsv" 2>/dev/null || true
    done | sha256sum
)

check() {
    measured "$WORK/measured/check.json" python local/prepare.py --data "$data" --cv "$cv" \
        --direction "$direction" --out "$WORK/data" --cache "$cache" --processes "$processes"
}

statistics() {
    python ../common/corpus_statistics.py --data "$WORK/data" --published local/published.json \
        --sets train dev test
}

# score_more RUN SET: Chinese and Japanese by character, as published.
score_more() {
    local by=(--by "$GROUP_BY")
    if [[ " $targets " != *" zh-CN "* && " $targets " != *" ja "* ]]; then return; fi
    stk-score --hyp "$WORK/decoded/$1/$2.jsonl" --ref "$WORK/data/$2.jsonl" --metric bleu \
        --tokenise char "${by[@]}" --json "$WORK/scores/$1/$2-char.json"
}

stage 0 check check --uses "data cv cache corpus directions" --clears "$WORK/data" \
    --inputs "local/prepare.py local/clips.py ../common/faults.py"
stage 0 statistics statistics --inputs "../common/corpus_statistics.py local/published.json"
system_stages 1
run_stages
