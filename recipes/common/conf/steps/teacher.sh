# The text translator's eight most probable tokens for every position of the training targets.
stk-data teacher "$WORK/data/train.jsonl" --checkpoint "$RUN/averaged/mt" --top 8 --out "$OUT"
