# What BERT says of every piece of the training transcripts.
stk-data bert "$WORK/data/train.jsonl" --model "$RUN/averaged/bert" --out "$OUT"
