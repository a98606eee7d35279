#!/usr/bin/env bash
# The study of results/study/PLAN.md, in its order; the same command again continues it.
#   STAGES="H1 H2"        only these stages (all)
#   RESULTS=FOLDER        the runs' folders (results/study-runs)
#   SEEDS="0 1 2 3"       other seeds for H1 to H4: on a GPU, or to extend one (0 to 7)
# Arguments go to the sweep: --plan, --jobs N, --shard K/N.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

trap 'exit 143' TERM # when the sweep under way has stopped

STAGES=${STAGES:-H1 H2 H3 H4 control time dropout0 lambda figure3 tables}
SEEDS=${SEEDS:-0 1 2 3 4 5 6 7}
AXIS=feature
more=("$@")
failed=0 # a failed run is kept and listed (PLAN.md); any other error ends the study

# runs LAMS SIGNS SEEDS DATA FEATURES PRED_LEN [FLAG...]: sweep a cell at the paper's settings.
runs() {
    local code=0
    LAMS=$1 SIGNS=$2 SEEDS=$3 FEATURES=$5 PRED_LENS=$6 AXIS=$AXIS MODEL=informer \
        RESULTS=${RESULTS:-results/study-runs} \
        bash scripts/sweep.sh "$4" --weights drop "${@:7}" ${more[@]+"${more[@]}"} || code=$?
    if [ "$code" -gt 1 ]; then exit "$code"; fi
    failed=$((failed | code))
}

stage_H1() { runs "0 2" minus "$SEEDS" ETTh2 S 24; }
stage_H2() { runs "0 2" minus "$SEEDS" ETTh2 M 24; }
stage_H3() { runs "0 2" minus "$SEEDS" ETTh1 M 24; }
stage_H4() { runs 2 plus "$SEEDS" ETTh2 S 24; }
stage_control() { runs 1e-6 minus "0 1 2 3 4 5" ETTh2 S 24; }
stage_time() {
    AXIS="time" runs 2 "minus plus" "0 1 2 3 4 5" ETTh2 S 24
    AXIS="time" runs 32 minus "0 1 2 3 4 5" ETTh2 S 24
}
stage_dropout0() { runs "0 2" minus "0 1 2 3" ETTh2 S 24 --dropout 0; }
stage_lambda() { # all six epochs, the test MSE of each
    local AXIS
    for AXIS in feature "time"; do
        runs "0 1 2 4 8" minus 0 ETTh2 M 24 --patience 6 --test_each_epoch
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
    done < <(tail -n +2 paper/printed/informer_settings.csv | grep -v ^ECL | sort -t, -k4,4n -k3,3n)
}

for stage in $STAGES; do
    echo "== $stage"
    "stage_$stage"
done
[ "$failed" = 0 ] # the exit code
