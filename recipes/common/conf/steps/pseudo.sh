# The teacher's translations of sound: of what --unlabelled names, else of the training recordings. One
# program a GPU, or $PROCESSES of them, label a share each; a share that is whole is not labelled again.
# shellcheck disable=SC2086
python ../common/unlabelled.py "$UNLABELLED" --tgt-langs $TGT_TAGS --out "$OUT/sound.jsonl"
gpus=$(python -c "import torch; print(torch.cuda.device_count())")
shares=$PROCESSES
if ((gpus > 0 && gpus < shares)); then shares=$gpus; fi
label() {
    local share=$OUT/$1-of-$shares device=cpu
    if [[ -f $share.jsonl ]]; then return; fi
    if ((gpus > 0)); then device=cuda:$(($1 - 1)); fi
    stk-decode --checkpoint "$RUN/averaged/wave-teacher" --manifest "$OUT/sound.jsonl" --beam 4 \
        --device "$device" --shard "$1/$shares" --pseudo-labels "$share.jsonl" \
        --skip-bad "$share-skipped.txt"
}
running=() failed=0
for ((one = 1; one <= shares; one++)); do
    label "$one" &
    running+=($!)
done
for one in "${running[@]}"; do wait "$one" || failed=1; done
((failed == 0))
cat "$OUT"/[0-9]*-of-"$shares".jsonl >"$OUT/train.jsonl"
