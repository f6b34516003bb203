#!/usr/bin/env bash
# wav2vec 2.0 on the training recordings alone, which run.sh fetches and prepares, and what it has
# learnt: how well it tells masked steps apart, beside a control that hears nothing, and what a linear
# layer reads off its states, beside those of an encoder with random weights and filterbanks.
source "$(dirname "${BASH_SOURCE[0]}")/../common/recipe.sh"

describe "Pre-trains a small wav2vec 2.0 on Tux Paint's stamps and measures what it has learnt."
option size full "model and training" tiny full
option seed 1 "of the training" int
option updates 0 "of the training and of the control (0: the configuration's)" int
option minutes 0 "longest time of the training (0: the configuration's)" int
option epochs 10 "of the linear layers" int
option clips "" "that these train on, at most (all at size full, 64 at size tiny)"
option processes 2 "sound files converted at once" int
parse_options "$@"

if [[ -z $clips && $size == tiny ]]; then clips=64; fi
[[ $clips =~ ^[0-9]*$ ]] || die "--clips takes a whole number, not '$clips'"
((epochs > 0)) || die "--epochs is at least 1"
require_program python stk-train stk-data
CONF=conf/systems/xstnet/1-wav2vec2.yaml
require_file "$CONF"
export SIZE=$size
work_in "exp/pretraining-$size"
export RUN=$WORK

make_data() {
    local name
    bash run.sh --processes "$processes" --stop-stage prepare
    mkdir -p "$WORK/data"
    for name in train dev; do
        ln -sf "$(realpath "exp/data/$name.jsonl")" "$WORK/data/$name.jsonl"
        ln -sf "$name.jsonl" "$WORK/data/asr-$name.jsonl"
    done
}

pretrain() {
    local limits
    limits=$(python ../common/facts.py "$CONF" limits --updates "$updates" --minutes "$minutes")
    # shellcheck disable=SC2086
    measured "$WORK/measured/wav2vec2.json" stk-train "$CONF" "seed=$seed" $limits
}

probe() {
    measured "$WORK/measured/probe.json" python local/probe.py --checkpoint "$WORK/wav2vec2/last" \
        --data "$WORK/data" --epochs "$epochs" --clips "${clips:-0}" --out "$WORK/probe.json" |
        tee "$WORK/probe.md"
}

files=$(conf_files "$CONF")
stage 1 corpus make_data --inputs "local/fetch.py local/prepare.py local/split.py local/stamps.py" \
    --clears "$WORK/data"
stage 2 wav2vec2 pretrain --uses "seed updates minutes" --inputs "${files//$'\n'/ }" \
    --clears "$WORK/wav2vec2"
stage 3 probe probe --uses "epochs clips" --inputs "local/probe.py local/control.py" \
    --clears "$WORK/probe.json"
run_stages
