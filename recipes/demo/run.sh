#!/usr/bin/env bash
# English numbers, dates, times and quantities, spoken on the spot by espeak-ng, translated into
# German, French or Spanish. Needs nothing but this package's own environment.
source "$(dirname "${BASH_SOURCE[0]}")/../common/recipe.sh"

describe "Speech translation from nothing: makes a corpus, trains, decodes, scores, reports."
option size full "corpus, model and training" full tiny
option tgt de "language of the translations" de fr es
option seed 1 "of the corpus and the training" int
option processes 2 "programs that speak at once" int
option beam 5 "hypotheses kept in decoding" int
parse_options "$@"

require_program python stk-train stk-decode stk-score stk-data stk-average
require_file "conf/$size.yaml"
work_in "exp/$size-$tgt"
if [[ $size == full ]]; then
    require_space "$WORK" 2000
    src_pieces=200 tgt_pieces=120 averaged=5
else
    require_space "$WORK" 100
    src_pieces=80 tgt_pieces=120 averaged=2
fi

make_corpus() {
    python local/build_corpus.py --size "$size" --tgt "$tgt" --seed "$seed" \
        --processes "$processes" --out "$WORK/data" --downloads downloads
}

# Few pieces, merged by frequency: what is frequent are the parts of numbers ("und", "zig", "hundert"),
# so that a number that training never had is written like any other. With more pieces whole numbers
# become pieces, and the others cannot be put together from them.
make_vocabularies() {
    stk-data vocab "$WORK/data/train.jsonl" --fields src_text --type bpe \
        --size "$src_pieces" --out "$WORK/vocab/src"
    stk-data vocab "$WORK/data/train.jsonl" --fields tgt_text --type bpe \
        --size "$tgt_pieces" --tags "$tgt" --out "$WORK/vocab/tgt"
}

train() {
    measured "$WORK/measured/train.json" stk-train "conf/$size.yaml" "seed=$seed"
}

average() {
    average_last "$WORK/st" "$averaged" "$WORK/averaged"
}

# Every test set that was made: the one of the other engine may have been left out.
test_sets() {
    local manifest
    for manifest in "$WORK"/data/test*.jsonl; do basename "$manifest" .jsonl; done
}

decode() {
    local name
    for name in $(test_sets); do
        echo "decoding $name"
        measured "$WORK/measured/decode-$name.json" stk-decode --checkpoint "$WORK/averaged" \
            --manifest "$WORK/data/$name.jsonl" --beam "$beam" \
            --output "$WORK/decoded/$name.jsonl" --summary "$WORK/decoded/$name.json"
    done
}

score() {
    local name
    for name in $(test_sets); do
        stk-score --hyp "$WORK/decoded/$name.jsonl" --ref "$WORK/data/$name.jsonl" \
            --metric bleu chrf --json "$WORK/scores/$name.json"
    done
}

report() {
    python local/report.py --work "$WORK"
}

generator="local/build_corpus.py local/corpus.py local/espeak.py local/flite.py local/slots.py
    local/spelling.py local/templates.py local/voices.py"
stage 1 corpus make_corpus --uses "size tgt seed" --inputs "$generator" --clears "$WORK/data"
stage 2 vocab make_vocabularies --clears "$WORK/vocab"
stage 3 train train --uses "seed" --inputs "conf/full.yaml conf/$size.yaml" \
    --clears "$WORK/st $WORK/measured"
stage 4 average average --clears "$WORK/averaged"
stage 5 decode decode --uses "beam" --clears "$WORK/decoded"
stage 6 score score --clears "$WORK/scores"
stage 7 report report --inputs "local/report.py local/summary.py" --clears "$WORK/report"
run_stages

[[ ! -f $WORK/report/summary.txt || $list == yes ]] || cat "$WORK/report/summary.txt"
