# What the text translator writes for the training transcripts becomes the target.
stk-decode --checkpoint "$RUN/averaged/mt" --manifest "$WORK/data/train.jsonl" --beam 5 \
    --pseudo-labels "$OUT/train.jsonl"
