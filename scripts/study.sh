#!/usr/bin/env bash
# The study of results/study/PLAN.md, its second part first; the same command again continues it. Runs that
# results/study/runs.csv lists are done.
#   STAGES="H1 H2"        only these stages (all)
#   RESULTS=FOLDER        the runs' folders (results/study-runs)
#   SEEDS="0 1 2 3"       other seeds than the plan's: on a GPU, or to extend a hypothesis
# Arguments go to the sweep: --plan, --jobs N, --shard K/N.
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup requirements.txt
trap 'exit 143' TERM # when the sweep under way has stopped

first_part="H1 H2 control time dropout0 lambda figure3 tables" # what is left of it comes last
STAGES=${STAGES:-H4 controlM H3 axis cells models $first_part}
results=${RESULTS:-results/study-runs}
AXIS=feature MODEL=informer
eight="0 1 2 3 4 5 6 7" eight_more="8 9 10 11 12 13 14 15"
more=("$@") rounds="1 2 3"
if [[ " $* ${SEEDS:+--plan} " == *" --plan "* ]]; then rounds=1; fi # the next look is not known yet
failed=0 # a failed run is kept and listed (PLAN.md); any other error ends the study

# runs LAMS SIGNS SEEDS DATA FEATURES PRED_LEN [FLAG...]: sweep a cell at the paper's settings.
runs() {
    local code=0
    INSTALL=no LAMS=$1 SIGNS=$2 SEEDS=${SEEDS:-$3} FEATURES=$5 PRED_LENS=$6 AXIS=$AXIS MODEL=$MODEL \
        RESULTS=$results bash scripts/sweep.sh "$4" --weights drop --test_each_epoch \
        --recorded results/study/runs.csv "${@:7}" ${more[@]+"${more[@]}"} || code=$?
    if [ "$code" -gt 1 ]; then exit "$code"; fi
    failed=$((failed | code))
}

# looks FIRST LAMS AMP CELL...: sweep each cell (DATA FEATURES PRED_LEN) from a first seed on to its next look, then
# those that are still open to the one after; the first look takes three pairs, the last eight.
looks() {
    local cell seeds
    for _ in $rounds; do
        for cell in "${@:4}"; do
            # shellcheck disable=SC2086 # three words
            seeds=$(python -m paper.study look $cell --model "$MODEL" --axis "$AXIS" --amp "$3" \
                --first "$1" --results "$results")
            # shellcheck disable=SC2086
            if [ -n "$seeds" ]; then runs "$2" minus "$seeds" $cell --amp "$3"; fi
        done
    done
}

fastest() { # precision of this machine
    python -c 'from models.layers import has_bf16_kernels as has; print("bf16" if has() else "off")'
}

stage_H4() { runs "0 2" "minus plus" "$eight_more" ETTh2 S 24; }
stage_controlM() { runs 1e-6 minus "$eight_more" ETTh2 M 24; }
stage_H3() { runs "0 2" minus "$eight" ETTh1 M 24; }
stage_axis() {
    local AXIS="time"
    looks 8 "2 32" off "ETTh2 S 24" "ETTh2 M 24"
}
stage_cells() {
    looks 0 "0 2" "$(fastest)" "ETTh2 S 48" "ETTh2 M 48" "ETTh1 M 48" "ETTh1 M 168" "ETTh2 S 168" \
        "ETTh1 S 168" "ETTm1 S 24" "ETTm1 M 24"
}
stage_models() {
    local MODEL features
    for MODEL in transformer autoformer; do
        for features in S M; do
            runs "0 2" minus "0 1 2" ETTh2 "$features" 24 --amp "$(fastest)"
        done
    done
}
stage_H1() { runs "0 2" minus "$eight" ETTh2 S 24; }
stage_H2() { runs "0 2" minus "$eight" ETTh2 M 24; }
stage_control() { runs 1e-6 minus "0 1 2 3 4 5" ETTh2 S 24; }
stage_time() {
    local AXIS="time"
    runs 2 "minus plus" "0 1 2 3 4 5" ETTh2 S 24
    runs 32 minus "0 1 2 3 4 5" ETTh2 S 24
}
stage_dropout0() { runs "0 2" minus "0 1 2 3" ETTh2 S 24 --dropout 0; }
stage_lambda() { # all six epochs, the test MSE of each
    local AXIS
    for AXIS in feature "time"; do
        runs "0 1 2 4 8" minus 0 ETTh2 M 24 --patience 6
    done
}
stage_figure3() {
    local pred_len
    for pred_len in 24 48 168 336 720; do
        runs "0 1 2 3 4 5" "minus plus" "0 1 2" ETTh2 S "$pred_len"
    done
}
stage_tables() { # cheapest first: by the length of a window
    local data features pred_len repeated
    while IFS=, read -r data features pred_len _; do
        repeated="0 1 2 3 4"
        if [ "$data" = WTH ]; then repeated="0 1 2"; fi
        runs "0 2" minus "$repeated" "$data" "$features" "$pred_len"
    done < <(tail -n +2 paper/published/informer_settings.csv | grep -v ^ECL | sort -t, -k4,4n -k3,3n)
}

for stage in $STAGES; do
    echo "== $stage"
    "stage_$stage"
done
[ "$failed" = 0 ] # the exit code
