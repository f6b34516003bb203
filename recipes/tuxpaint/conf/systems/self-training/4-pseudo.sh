# Stage 2, first half: the teacher labels sound. Shards may run on as many machines.
for shard in 1 2; do
    stk-decode --checkpoint "$RUN/averaged/teacher" --manifest "$WORK/data/asr-train.jsonl" \
        --beam 4 --shard "$shard/2" --pseudo-labels "$OUT/$shard.jsonl"
done
