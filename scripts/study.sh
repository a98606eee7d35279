#!/usr/bin/env bash
# The study of results/study/PLAN.md, its second part first; the same command again continues it.
#   STAGES="H1 H2"        only these stages (all)
#   RESULTS=FOLDER        the runs' folders (results/study-runs)
#   SEEDS="0 1 2 3"       other seeds than the plan's: on a GPU, or to extend a hypothesis
# Arguments go to the sweep: --plan, --jobs N, --shard K/N.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

trap 'exit 143' TERM # when the sweep under way has stopped

first_part="H1 H2 control time dropout0 lambda figure3 tables" # what is left of it comes last
STAGES=${STAGES:-H4 controlM H3 axis cells models $first_part}
AXIS=feature MODEL=informer
eight="0 1 2 3 4 5 6 7"
more=("$@")
failed=0 # a failed run is kept and listed (PLAN.md); any other error ends the study

# runs LAMS SIGNS SEEDS DATA FEATURES PRED_LEN [FLAG...]: sweep a cell at the paper's settings.
runs() {
    local code=0
    LAMS=$1 SIGNS=$2 SEEDS=${SEEDS:-$3} FEATURES=$5 PRED_LENS=$6 AXIS=$AXIS MODEL=$MODEL \
        RESULTS=${RESULTS:-results/study-runs} \
        bash scripts/sweep.sh "$4" --weights drop --test_each_epoch "${@:7}" \
        ${more[@]+"${more[@]}"} || code=$?
    if [ "$code" -gt 1 ]; then exit "$code"; fi
    failed=$((failed | code))
}

stage_H4() { runs "0 2" "minus plus" "8 9 10 11 12 13 14 15" ETTh2 S 24; }
stage_controlM() { runs 1e-6 minus "8 9 10 11 12 13 14 15" ETTh2 M 24; }
stage_H3() { runs "0 2" minus "$eight" ETTh1 M 24; }
stage_axis() {
    AXIS="time" runs "2 32" minus "8 9 10" ETTh2 S 24
    AXIS="time" runs "2 32" minus "8 9 10" ETTh2 M 24
}
stage_cells() {
    local cell
    for cell in "ETTh2 S 48" "ETTh2 M 48" "ETTh1 M 48" "ETTm1 M 24" "ETTh1 M 168" "ETTh2 S 168" \
        "ETTh1 S 168" "ETTm1 S 24"; do
        # shellcheck disable=SC2086 # three words
        runs "0 2" minus "0 1 2" $cell --amp "$precision"
    done
}
stage_models() {
    local MODEL features
    for MODEL in transformer autoformer; do
        for features in S M; do
            runs "0 2" minus "0 1 2" ETTh2 "$features" 24 --amp "$precision"
        done
    done
}
stage_H1() { runs "0 2" minus "$eight" ETTh2 S 24; }
stage_H2() { runs "0 2" minus "$eight" ETTh2 M 24; }
stage_control() { runs 1e-6 minus "0 1 2 3 4 5" ETTh2 S 24; }
stage_time() {
    AXIS="time" runs 2 "minus plus" "0 1 2 3 4 5" ETTh2 S 24
    AXIS="time" runs 32 minus "0 1 2 3 4 5" ETTh2 S 24
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

precision=off
if grep -qsE 'avx512_bf16|amx_bf16' /proc/cpuinfo; then precision=bf16; fi # from cells on

for stage in $STAGES; do
    echo "== $stage"
    "stage_$stage"
done
[ "$failed" = 0 ] # the exit code
