#!/usr/bin/env bash
# Text pre-training on the Bible in eight languages, and what it is worth for translation: language
# models, denoising, MASS and mRASP, fine-tuned on a low-resource pair and on a pair that
# pre-training never saw; unsupervised translation; back-translation; distillation.
source "$(dirname "${BASH_SOURCE[0]}")/../common/recipe.sh"

describe "Text pre-training and translation on public-domain Bible versions."
option size s "of the models: s for two cores, m for a GPU, xs for a first look, tiny for a smoke test" \
    tiny xs s m
option systems "main" "what is trained: of main, more, exotic, unmt, bt, kd, classes, or \"all\""
option seeds "1" "seeds, every training once for each, such as \"1 2 3\""
option pretrain-seed "" "pre-train with this seed alone, and tune from that with all seeds"
option texts bible "what pre-training reads beside the Bible: nothing, or help and sentences" bible all
option low ro-en "the low-resource pair; pre-training sees both its languages"
option exotic it-tl "a pair of languages that pre-training never sees"
option exotic-from "mlm mbart mass mrasp" "pre-trainings that the exotic pair is tuned from"
option close es-it "the pair of unsupervised translation"
option languages "en de fr es ru ro" "of pre-training"
option verses 5000 "training verses of the low-resource and of the exotic pair" int
option longest 30 "words of a verse at most" int
option rows 120000 "rows of each pre-training mixture" int
option pieces 6000 "of the shared vocabulary" int
option updates "" "of a pre-training (xs: 600, s: 2000)"
option tune-updates "" "of a fine-tuning, and of a training from random weights (xs: 200, s: 1200)"
option minutes "" "longest time of one training; without it updates alone count"
option beam 5 "hypotheses kept in decoding" int
option averaged 3 "checkpoints averaged, the newest" int
option samples 1000 "bootstrap resamples" int
option downloads downloads "where what was fetched lies"
parse_options "$@"

[[ $seeds =~ ^[0-9]+(\ [0-9]+)*$ ]] || die "--seeds takes whole numbers with a space between, not '$seeds'"
for one in updates tune_updates minutes pretrain_seed; do
    [[ ${!one} =~ ^[0-9]*$ ]] || die "--${one//_/-} takes a whole number, not '${!one}'"
done
[[ -z $pretrain_seed || " $seeds " == *" $pretrain_seed "* ]] ||
    die "--pretrain-seed takes one of --seeds ($seeds), not '$pretrain_seed'"
KNOWN="main more exotic unmt bt kd classes"
[[ $systems == all ]] && systems=$KNOWN
for one in $systems; do
    [[ " $KNOWN " == *" $one "* ]] || die "--systems takes some of: $KNOWN, not '$one'"
done
for one in $exotic_from; do
    [[ " mlm mbart mass mrasp " == *" $one "* ]] ||
        die "--exotic-from takes some of: mlm mbart mass mrasp, not '$one'"
done
for one in "$low" "$exotic" "$close"; do
    [[ $one =~ ^[a-z]+-[a-z]+$ ]] || die "'$one' does not name a pair (such as ro-en)"
done
ratio=1.5 # of the longer side of a synthetic pair to the shorter one, at most
case $size in
tiny) # what such a model writes has any length
    : "${updates:=10}" "${tune_updates:=10}"
    ratio=1000
    ;;
xs) : "${updates:=600}" "${tune_updates:=200}" ;;
s) : "${updates:=2000}" "${tune_updates:=1200}" ;;
m) : "${updates:=40000}" "${tune_updates:=20000}" ;;
esac
require_program python stk-train stk-decode stk-score stk-data stk-average
export SIZE=$size FIRST=${close%-*} SECOND=${close#*-}
work_in "exp/$size"
require_space "$WORK" 500
reverse_low=${low#*-}-${low%-*} reverse_close=$SECOND-$FIRST
others=" $languages " && others=${others/ en / }
limits="size updates averaged minutes"
tuning="size tune-updates averaged minutes beam"

# chosen SYSTEMS...: whether --systems has one of them.
chosen() {
    local one
    for one; do [[ " $systems " != *" $one "* ]] || return 0; done
    return 1
}

fetch() { python local/fetch.py --out "$downloads"; }

prepare() {
    # shellcheck disable=SC2086
    python local/make_sets.py --database "$downloads/bible.db" --out "$WORK/data/bible" \
        --languages $languages --low "$low" --exotic "$exotic" --close "$close" \
        --verses "$verses" --longest "$longest"
}

other_text() {
    if [[ $texts == all ]]; then
        python local/other_text.py --package "$downloads/debian" --bible "$WORK/data/bible" \
            --out "$WORK/data/pairs-other" --longest "$longest"
    fi
}

make_lexicons() {
    # shellcheck disable=SC2086
    python local/lexicons.py --pairs "$WORK/data/bible/pairs" --languages $others \
        --dictionaries "$downloads/debian" --out "$WORK/data"
}

mixtures() {
    # shellcheck disable=SC2086
    python local/mixture.py --data "$WORK/data" --languages $languages --rows "$rows"
}

make_vocabulary() {
    local tags
    tags=$(cd "$WORK/data/bible/mono" && printf '%s\n' *.jsonl | sed 's/\.jsonl$//')
    # shellcheck disable=SC2086
    stk-data vocab "$WORK/data/vocab.jsonl" --fields src_text --size "$pieces" --coverage 0.9999 \
        --tags $tags bt --out "$WORK/vocab"
    stk-data counts "$WORK/data/vocab.jsonl" --vocab "$WORK/vocab" \
        --out "$WORK/vocab/counts.npy"
}

book_classes() {
    # shellcheck disable=SC2086
    python local/classes.py --bible "$WORK/data/bible" --languages $languages \
        --out "$WORK/data/classes"
}

# train SEED NAME CONF UPDATES [NAME=VALUE...]: one training and the mean of its last checkpoints.
# What is named NAME=VALUE is read by the configuration, see conf/direct.yaml and conf/tune.yaml.
train() {
    local run=$WORK/seed$1 updates=$4 more=()
    if [[ -n $minutes ]]; then more=("training.max_minutes=$minutes"); fi
    if [[ $size != tiny ]]; then more+=("checkpoint.every=$((updates / 10 + 1))"); fi
    (
        export "RUN=$run" "NAME=$2" "${@:5}"
        measured "$run/measured/$2.json" stk-train "conf/$3.yaml" "seed=$1" \
            "training.max_updates=$updates" "schedule.total=$updates" \
            "schedule.warmup=$((updates / 10))" "checkpoint.keep_last=$averaged" "${more[@]}"
    )
    average_last "$run/$2" "$averaged" "$run/averaged/$2"
}

# translate SEED NAME PAIR [MORE CHECKPOINTS...]: the pair's test set; several are an ensemble.
translate() {
    local run=$WORK/seed$1 name=$2 pair=$3 from=("$WORK/seed$1/averaged/$2")
    if (($# > 3)); then from=("${@:4}"); fi
    measured "$run/measured/decode-$name-$pair.json" stk-decode --checkpoint "${from[@]}" \
        --task translation --manifest "$WORK/data/bible/pairs/$pair/test.jsonl" --beam "$beam" \
        --output "$run/decoded/$pair/$name.jsonl" --summary "$run/decoded/$pair/$name.json"
}

# tune SEED NAME CONF PAIR [NAME=VALUE...]: one training on a pair, and its test set translated.
tune() {
    train "$1" "$2" "$3" "$tune_updates" "PAIR=$4" "TRAIN=bible/pairs/$4/train" "${@:5}"
    translate "$1" "$2" "$4"
}

# score SEED TABLE PAIR NAME...: BLEU and chrF of systems; each is compared with the first by
# resampling.
score() {
    local run=$WORK/seed$1 name files=()
    for name in "${@:4}"; do files+=("$run/decoded/$3/$name.jsonl"); done
    stk-score --hyp "${files[@]}" --ref "$WORK/data/bible/pairs/$3/test.jsonl" \
        --metric bleu chrf --bootstrap "$samples" --json "$run/scores/$2.json"
}

# similarity SEED: cosines of dictionary pairs that substitution never had, before pre-training,
# after it without substitution, and with substitution, and a picture of the three side by side.
similarity() {
    local run=$WORK/seed$1
    stk-data similarity --before --view text \
        --checkpoint "$run/averaged/mrasp-plain" "$run/averaged/mrasp" \
        --lexicon "$WORK"/data/heldout/*.tsv --out "$run/similarity/mrasp.json" \
        --plot "$run/similarity/mrasp.png"
}

# listening SEED NAME...: how much the translators of the low-resource pair read their source.
listening() {
    local run=$WORK/seed$1 name from=()
    for name in "${@:2}"; do from+=("$run/averaged/$name"); done
    python local/reads_source.py --checkpoint "${from[@]}" --out "$run/listening.json"
}

# unsupervised SEED: one training, which translates the close pair in both directions.
unsupervised() {
    local pair
    train "$1" unmt unmt "$updates" "UNMT_THIRD=$((updates / 3))"
    for pair in "$close" "$reverse_close"; do
        translate "$1" unmt "$pair"
        python local/copies.py --manifest "$WORK/data/bible/pairs/$pair/test.jsonl" \
            --out "$WORK/seed$1/decoded/$pair/copy.jsonl"
    done
    python local/curve.py --run "$WORK/seed$1/unmt" --out "$WORK/seed$1/unmt-curve.png"
}

# back_translate SEED ROUND MODEL: the target language's training verses into the source language.
back_translate() {
    local run=$WORK/seed$1 target=${low#*-} source=${low%-*}
    python local/take.py --manifest "$WORK/data/bible/mono/$target.jsonl" \
        --without "$WORK/data/bible/pairs/$low/train.jsonl" --count "$((verses * 2))" \
        --target-lang "$source" --out "$run/made/$2-text.jsonl"
    stk-decode --checkpoint "$run/averaged/$3" --task translation --beam 1 \
        --manifest "$run/made/$2-text.jsonl" --output "$run/made/$2-decoded.jsonl"
    stk-data synthetic "$run/made/$2-text.jsonl" "$run/made/$2-decoded.jsonl" \
        "$run/made/$2.jsonl" --side source --ratio "$ratio"
}

# iterate SEED: a second round, whose sources are from a reverse model that was itself trained
# with back-translations by the first round's forward model.
iterate() {
    local run=$WORK/seed$1 target=${low#*-} source=${low%-*}
    python local/take.py --manifest "$WORK/data/bible/mono/$source.jsonl" \
        --without "$WORK/data/bible/pairs/$low/train.jsonl" --count "$((verses * 2))" \
        --target-lang "$target" --out "$run/made/forward-text.jsonl"
    stk-decode --checkpoint "$run/averaged/bt-tagged" --task translation --beam 1 \
        --manifest "$run/made/forward-text.jsonl" \
        --output "$run/made/forward-decoded.jsonl"
    stk-data synthetic "$run/made/forward-text.jsonl" \
        "$run/made/forward-decoded.jsonl" "$run/made/forward.jsonl" --side source --ratio "$ratio"
    train "$1" reverse2 back-translated "$tune_updates" "PAIR=$reverse_low" SYNTHETIC=forward \
        MARK=bt "TRAIN=bible/pairs/$reverse_low/train"
    back_translate "$1" round2 reverse2
    tune "$1" bt-iterated back-translated "$low" SYNTHETIC=round2 MARK=bt
}

# distill SEED: training sources as the teacher translates them.
distill() {
    local run=$WORK/seed$1 train=$WORK/data/bible/pairs/$low/train.jsonl
    stk-decode --checkpoint "$run/averaged/tune-mrasp" --task translation --beam "$beam" \
        --manifest "$train" --output "$run/made/distilled-decoded.jsonl"
    stk-data synthetic "$train" "$run/made/distilled-decoded.jsonl" \
        "$run/made/distilled.jsonl" --side target --ratio "$ratio"
    mkdir -p "$WORK/data/distilled"
    cp "$run/made/distilled.jsonl" "$WORK/data/distilled/seed$1.jsonl"
    train "$1" sequence-distilled direct "$tune_updates" "PAIR=$low" "TRAIN=distilled/seed$1"
    translate "$1" sequence-distilled "$low"
}

table() {
    # shellcheck disable=SC2086
    python local/score_table.py --work "$WORK" --seeds $seeds --out "$WORK/table.md"
}

stage 1 fetch fetch --uses downloads --inputs "local/fetch.py"
stage 2 prepare prepare --uses "languages low exotic close verses longest" --clears "$WORK/data" \
    --inputs "local/make_sets.py local/verse_split.py local/versions.py"
stage 3 other-text other_text --uses "texts longest" --clears "$WORK/data/pairs-other" \
    --inputs "local/other_text.py local/help_pages.py local/everyday.py"
stage 4 lexicons make_lexicons --after prepare --inputs local/lexicons.py \
    --clears "$WORK/data/lexicons $WORK/data/heldout"
stage 5 mixtures mixtures --after "prepare other-text" --uses rows --inputs local/mixture.py \
    --clears "$WORK/data/pretrain"
stage 6 vocab make_vocabulary --uses pieces --clears "$WORK/vocab"
if chosen classes; then
    stage 6 book-classes book_classes --after prepare --uses languages \
        --clears "$WORK/data/classes" --inputs "local/classes.py local/make_sets.py"
fi

# read_conf NAME: CONF_FILES[NAME] gets the files of a configuration, found once.
declare -A CONF_FILES=()
read_conf() {
    [[ -v CONF_FILES[$1] ]] || CONF_FILES[$1]=$(conf_files "conf/$1.yaml")
}

# The lexicons that substitution reads, as conf/mrasp.yaml takes them.
lexicons=""
for one in $others; do
    for way in "en-$one" "$one-en"; do
        lexicons+="${lexicons:+, }$way: $WORK/data/lexicons/$way.tsv"
    done
done

# pretrained SEED NAME: declares the stage of a pre-training, unless another system has declared it.
pretrained() {
    local more=()
    [[ -z ${STAGE_NUMBER[$2-$1]:-} ]] || return 0
    if [[ $2 == mrasp ]]; then more=("LEXICONS={$lexicons}"); fi
    read_conf "$2"
    stage 7 "$2-$1" train "$1" "$2" "$2" "$updates" "${more[@]}" --after "vocab lexicons" \
        --uses "$limits" --inputs "${CONF_FILES[$2]}" \
        --clears "$WORK/seed$1/$2 $WORK/seed$1/averaged/$2"
}

# started_from SEED: the seed whose pre-trainings the trainings of a seed start from.
started_from() { printf '%s' "${pretrain_seed:-$1}"; }

# tuned SEED NAME CONF PAIR AFTER [NAME=VALUE...]: declares the stage of a training on a pair.
tuned() {
    read_conf "$3"
    stage 8 "$2-$1" tune "$1" "$2" "$3" "$4" "STARTS=$WORK/seed$(started_from "$1")" "${@:6}" \
        --after "$5" --uses "$tuning pretrain-seed" --inputs "${CONF_FILES[$3]}" \
        --clears "$WORK/seed$1/$2 $WORK/seed$1/averaged/$2 $WORK/seed$1/decoded/$4/$2.jsonl"
    made+=" $2-$1"
}

# classifier SEED NAME AFTER: declares the stage of a training that tells kinds of books apart.
classifier() {
    read_conf "$2"
    stage 8 "$2-$1" train "$1" "$2" "$2" "$tune_updates" \
        "STARTS=$WORK/seed$(started_from "$1")" --after "book-classes $3" \
        --uses "size tune-updates averaged minutes pretrain-seed" \
        --inputs "${CONF_FILES[$2]}" \
        --clears "$WORK/seed$1/$2 $WORK/seed$1/averaged/$2"
    ended+=" $2-$1"
}

# scored SEED TABLE PAIR NAME...: declares the stage that scores systems beside the first.
scored() {
    stage 9 "score-$2-$1" score "$@" --after "$made" --uses samples \
        --clears "$WORK/seed$1/scores/$2.json"
    ended+=" score-$2-$1"
}

# tuned_from SEED PREFIX PAIR NAMES: declares a training on a pair from each pre-training, and the
# pre-trainings; $names gets the systems.
tuned_from() {
    local name base start
    start=$(started_from "$1")
    names=""
    for name in $4; do pretrained "$start" "$name"; done
    for name in $4; do
        base=tune
        if [[ $name == *lm ]]; then base=tune-lm; fi
        tuned "$1" "$2-$name" "$base" "$3" "$name-$start" "FROM=$name"
        names+=" $2-$name"
    done
}

# Each system declares what it needs, and no pre-training else.
low_from=""
if chosen main; then low_from="mlm mbart mass mrasp mrasp-plain"; fi
if chosen more; then low_from+=" clm tlm"; fi
if chosen kd && ! chosen main; then low_from+=" mrasp"; fi

ended=""
for one in $seeds; do
    start=$(started_from "$one") out=$WORK/seed$one made=""
    if chosen main more bt kd; then
        tuned "$one" direct direct "$low" vocab
        tuned_from "$one" tune "$low" "$low_from"
    fi
    if chosen main; then
        stage 8 "ensemble-$one" translate "$one" ensemble "$low" "$WORK/seed$one/averaged/tune-mrasp" \
            "$WORK/seed$one/averaged/tune-mrasp-plain" --uses beam \
            --after "tune-mrasp-$one tune-mrasp-plain-$one" \
            --clears "$WORK/seed$one/decoded/$low/ensemble.jsonl"
        # shellcheck disable=SC2086
        stage 10 "listening-$one" listening "$one" direct $names --after "$made" \
            --inputs local/reads_source.py --clears "$WORK/seed$one/listening.json"
        ended+=" listening-$one"
        made+=" ensemble-$one"
        names+=" ensemble"
        if [[ " $ended " != *" similarity-$start "* ]]; then
            stage 10 "similarity-$start" similarity "$start" \
                --after "mrasp-$start mrasp-plain-$start" --clears "$WORK/seed$start/similarity"
            ended+=" similarity-$start"
        fi
    fi
    if chosen main more; then
        # shellcheck disable=SC2086
        scored "$one" main "$low" direct $names
    fi
    if chosen exotic; then
        made=""
        tuned "$one" exotic-direct direct "$exotic" vocab
        tuned_from "$one" exotic "$exotic" "$exotic_from"
        # shellcheck disable=SC2086
        scored "$one" exotic "$exotic" exotic-direct $names
    fi
    if chosen unmt; then
        pretrained "$one" unmt-lm
        read_conf unmt
        stage 8 "unmt-$one" unsupervised "$one" --after "unmt-lm-$one" --uses "$limits beam" \
            --inputs "${CONF_FILES[unmt]} local/copies.py local/curve.py" \
            --clears "$WORK/seed$one/unmt $WORK/seed$one/averaged/unmt"
        made="unmt-$one"
        for pair in "$close" "$reverse_close"; do
            scored "$one" "unsupervised-$pair" "$pair" copy unmt
        done
    fi
    if chosen bt; then
        pretrained "$start" mrasp
        tuned "$one" reverse tune "$reverse_low" "mrasp-$start" FROM=mrasp
        stage 8 "round1-$one" back_translate "$one" round1 reverse --uses verses \
            --after "reverse-$one" --inputs local/take.py
        made="direct-$one"
        tuned "$one" bt-plain back-translated "$low" "round1-$one" SYNTHETIC=round1
        tuned "$one" bt-noised back-translated "$low" "round1-$one" SYNTHETIC=round1 \
            OBJECTIVE=noised_translation
        tuned "$one" bt-tagged back-translated "$low" "round1-$one" SYNTHETIC=round1 MARK=bt
        stage 8 "bt-iterated-$one" iterate "$one" --after "bt-tagged-$one" \
            --uses "$tuning verses" \
            --clears "$out/bt-iterated $out/reverse2 $out/averaged/bt-iterated $out/averaged/reverse2"
        made+=" bt-iterated-$one"
        scored "$one" back-translation "$low" direct bt-plain bt-noised bt-tagged bt-iterated
    fi
    if chosen kd; then
        made="direct-$one"
        stage 8 "sequence-distilled-$one" distill "$one" --after "tune-mrasp-$one direct-$one" \
            --uses "$tuning" --clears "$out/sequence-distilled $out/averaged/sequence-distilled"
        made+=" sequence-distilled-$one"
        tuned "$one" word-distilled word-distilled "$low" "tune-mrasp-$one" TEACHER=tune-mrasp
        scored "$one" distillation "$low" direct sequence-distilled word-distilled
    fi
    if chosen classes; then
        pretrained "$start" mlm
        classifier "$one" classes-direct vocab
        classifier "$one" classes "mlm-$start"
    fi
done
stage 11 table table --uses seeds --inputs local/score_table.py --after "$ended"
run_stages
