#!/usr/bin/env bash
# What a CUDA device gives, in two parts of at most nine minutes that stop by themselves:
#   bash scripts/cuda.sh check OUT    the tests that need CUDA, then steps timed beside neuralforecast
#   bash scripts/cuda.sh runs OUT     1, 2, 4, 8 runs side by side, then the study until time is up;
#                                     the same again goes on with the study
# With the Python that is active, as it is; INFORMER_DATA names the folder of the CSV files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in check | runs) ;; *) echo "error: usage: bash scripts/cuda.sh check|runs OUT" >&2 && exit 2 ;; esac
out=${2:-results/cuda}
end=$((SECONDS + 530)) device=${DEVICE:-cuda} # DEVICE=cpu rehearses the second part
export INSTALL=no PYTHONUNBUFFERED=1
PATH=$(dirname "$(python3 -c 'import sys; print(sys.executable)')"):$PATH # has `python`, too
mkdir -p "$out"

# within COMMAND...: stop it, resumable, when the part's time is up.
within() {
    local left=$((end - SECONDS))
    if [ "$left" -lt 1 ]; then return; fi
    timeout --signal TERM --kill-after 20 "$left" "$@" || echo "exit code $?: $*"
}

check() {
    local whole=$end
    end=$((SECONDS + 270)) # a test that hangs must leave time to measure
    within python -m pytest -n 0 -m cuda -W default tests/test_cuda.py | tee "$out/tests.txt"
    end=$whole
    for setting in 48/48/24/3 720/168/24/5; do
        within python -m exp.bench --device "$device" --data ETTh2 --rounds 30 --settings "$setting" \
            --contenders fp32 c0 bf16 captured captured_bf16 neuralforecast neuralforecast_bf16 \
            --out "$out/bench_${setting//\//-}"
    done
}

runs() {
    if [ ! -e "$out/side_by_side.txt" ]; then
        for count in 1 2 4 8; do
            within env FEATURES=S PRED_LENS=24 LAMS=2 SIGNS=minus SEEDS="$(seq -s ' ' "$count")" \
                RUNS_PER_GPU="$count" RESULTS="$out/side_$count" bash scripts/ETTh2.sh \
                --device "$device" --train_epochs 3 --weights drop
            python -c 'import sys; from pathlib import Path; from exp.record import read_history
ends = Path(sys.argv[1]).glob("*/metrics.json")  # the first epoch loads kernels
took = [read_history(end.parent)["seconds"].iloc[1:].median() for end in ends]
print(len(took), "runs side by side:", sum(60 / s for s in took), "epochs a minute together")' \
                "$out/side_$count" | tee -a "$out/side_by_side.txt" || true
        done
    fi
    within env SEEDS="$(seq -s ' ' 0 11)" RUNS_PER_GPU="${RUNS_PER_GPU:-8}" \
        RESULTS="$out/study-runs" bash scripts/study.sh --device "$device"
    python -m paper.study collect "$out/study-runs" --study "$out/study"
}

"$1"
