#!/usr/bin/env bash
# Human recordings of Tux Paint's stamps, eight languages to English: recognition, translation from
# scratch, and translation that starts from the recogniser's encoder.
source "$(dirname "${BASH_SOURCE[0]}")/../common/recipe.sh"

describe "Speech translation into English from Debian's tuxpaint-stamps-default (GPL-2)."
option seed "" "train with this one seed (short for --seeds)"
option seeds "1" "seeds, one training of each kind for each, such as \"1 2 3\""
option processes 2 "sound files converted at once" int
option src-pieces 200 "vocabulary of the eight languages" int
option tgt-pieces 150 "vocabulary of English" int
option beam 5 "hypotheses kept in decoding" int
option samples 1000 "bootstrap resamples" int
option averaged 5 "checkpoints averaged, the newest" int
option asr-updates 2000 "training of the recogniser; its learning rate falls over so many updates" int
option updates 1000 "training of a translator" int
option minutes 20 "longest time of one training" int
parse_options "$@"

seeds=${seed:-$seeds}
[[ $seeds =~ ^[0-9]+(\ [0-9]+)*$ ]] || die "--seeds takes whole numbers with a space between, not '$seeds'"
require_program python stk-train stk-decode stk-score stk-data stk-average
[[ -d downloads/tuxpaint ]] || require_program apt-get apt-cache dpkg-deb
work_in exp
require_space exp 1500

fetch() {
    python local/fetch.py --out downloads/tuxpaint
}

prepare() {
    python local/prepare.py --package downloads/tuxpaint --out "$WORK/data" \
        --processes "$processes"
}

# Two hours of speech in three scripts: few pieces and no capitals, so that each is heard often.
make_vocabularies() {
    stk-data vocab "$WORK/data/train.jsonl" --fields src_text --type bpe --size "$src_pieces" \
        --normalization nmt_nfkc_cf --tags fr es ca ro ru bg be el --out "$WORK/vocab/src"
    stk-data vocab "$WORK/data/train.jsonl" --fields tgt_text --type bpe --size "$tgt_pieces" \
        --out "$WORK/vocab/tgt"
}

# train SEED CONF UPDATES: one training, into exp/seedN/.
train() {
    RUN=$WORK/seed$1 measured "$WORK/seed$1/measured/$2.json" stk-train "conf/$2.yaml" \
        "seed=$1" "training.max_minutes=$minutes" "training.max_updates=$3" \
        "schedule.total=$3" "schedule.warmup=$(($3 / 8))" \
        "checkpoint.keep_last=$averaged"
}

average() {
    local run
    for run in asr st-scratch st-from-asr; do
        average_last "$WORK/seed$1/$run" "$averaged" "$WORK/seed$1/averaged/$run"
    done
}

decode() {
    local run
    for run in asr st-scratch st-from-asr; do
        measured "$WORK/seed$1/measured/decode-$run.json" stk-decode \
            --checkpoint "$WORK/seed$1/averaged/$run" --manifest "$WORK/data/test.jsonl" \
            --beam "$beam" --output "$WORK/seed$1/decoded/$run.jsonl" \
            --summary "$WORK/seed$1/decoded/$run.json"
    done
}

# score SEED: each system by language and overall; the two translators compared by resampling
# the test set's English sentences.
score() {
    local out=$WORK/seed$1
    stk-score --hyp "$out/decoded/asr.jsonl" --ref "$WORK/data/test.jsonl" --field src_text \
        --metric wer cer --by src_lang --json "$out/scores/asr.json"
    stk-score --hyp "$out/decoded/st-scratch.jsonl" "$out/decoded/st-from-asr.jsonl" \
        --ref "$WORK/data/test.jsonl" --metric chrf bleu --by src_lang \
        --bootstrap "$samples" --json "$out/scores/st.json"
}

# table: all seeds side by side.
table() {
    # shellcheck disable=SC2086
    python local/table.py --work "$WORK" --seeds $seeds
}

stage 1 fetch fetch --inputs "local/fetch.py" --clears "downloads/tuxpaint"
stage 2 prepare prepare --inputs "local/prepare.py local/split.py local/stamps.py" \
    --clears "$WORK/data"
stage 3 vocab make_vocabularies --uses "src-pieces tgt-pieces" --clears "$WORK/vocab"
limits="minutes averaged"
for one in $seeds; do
    out=$WORK/seed$one
    stage 4 "asr-$one" train "$one" asr "$asr_updates" --after vocab --uses "$limits" \
        --inputs "conf/st.yaml conf/asr.yaml" --clears "$out/asr"
    stage 5 "st-scratch-$one" train "$one" st "$updates" --after vocab --uses "$limits" \
        --inputs "conf/st.yaml" --clears "$out/st-scratch"
    stage 6 "st-from-asr-$one" train "$one" st-from-asr "$updates" --after "vocab asr-$one" \
        --uses "$limits" --inputs "conf/st.yaml conf/st-from-asr.yaml" --clears "$out/st-from-asr"
    stage 7 "average-$one" average "$one" --after "asr-$one st-scratch-$one st-from-asr-$one" \
        --uses averaged --clears "$out/averaged"
    stage 8 "decode-$one" decode "$one" --uses beam --clears "$out/decoded"
    stage 9 "score-$one" score "$one" --uses samples --clears "$out/scores"
    scored="${scored:-} score-$one"
done
stage 10 table table --uses seeds --inputs local/table.py --after "$scored"
run_stages
