#!/usr/bin/env bash
# The study of results/study/PLAN.md, as scripts/study.csv lists it, its second part first; the same command again
# continues it. Runs that results/study/runs.csv lists are done. Arguments go to the sweep: --plan, --jobs N.
#   STAGES="H1 H2"        only these stages (all)
#   RESULTS=FOLDER        the runs' folders (results/study-runs)
#   SEEDS="0 1 2 3"       other seeds than the plan's: on a GPU, or to extend a hypothesis
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup requirements.txt
trap 'exit 143' TERM # when the sweep under way has stopped

results=${RESULTS:-results/study-runs} arguments=("$@")
fastest=$(python -c 'from models.layers import has_bf16_kernels as has; print("bf16" if has() else "off")')
failed=0 # a failed run is kept and listed (PLAN.md); any other error ends the study

# cells STAGE: sweep the stage's cells at the paper's settings, each to its next look where the seeds are "look FIRST":
# the first look takes three pairs from seed FIRST on, the last eight.
cells() {
    local stage model data features pred_len axis lams signs seeds flags words code
    while IFS=, read -r stage model data features pred_len axis lams signs seeds flags; do
        if [ "$stage" != "$1" ]; then continue; fi
        # shellcheck disable=SC2206 # words
        words=(${flags/fastest/$fastest})
        if [[ $seeds == look* ]]; then
            seeds=$(python -m paper.study look "$data" "$features" "$pred_len" --model "$model" \
                --axis "$axis" "${words[@]}" --first "${seeds#look }" --results "$results")
        fi
        seeds=${SEEDS:-$seeds}
        if [ -z "$seeds" ]; then continue; fi # the cell is decided
        code=0
        INSTALL=no LAMS=$lams SIGNS=$signs SEEDS=$seeds FEATURES=$features PRED_LENS=$pred_len \
            AXIS=$axis MODEL=$model RESULTS=$results bash scripts/sweep.sh "$data" --weights drop \
            --test_each_epoch --recorded results/study/runs.csv ${words[@]+"${words[@]}"} \
            ${arguments[@]+"${arguments[@]}"} || code=$?
        if [ "$code" -gt 1 ]; then exit "$code"; fi
        failed=$((failed | code))
    done <scripts/study.csv
}

for stage in ${STAGES:-$(tail -n +2 scripts/study.csv | cut -d, -f1 | uniq)}; do
    echo "== $stage"
    grep -q "^$stage," scripts/study.csv || { echo "error: no such stage" >&2; exit 2; }
    cells "$stage"
    if grep -q "^$stage,.*,look" scripts/study.csv && [[ " $* ${SEEDS:+--plan}" != *" --plan"* ]]; then
        cells "$stage" # those that are still open
        cells "$stage" # and once more: there are three looks
    fi
done
[ "$failed" = 0 ] # the exit code
