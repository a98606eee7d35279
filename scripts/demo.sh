#!/usr/bin/env bash
# Three short runs on the embedded data (c = -2, 0, +2), a table that compares them, and the answer.
# RESULTS=FOLDER (results/demo) holds the runs; arguments go to every run.
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup requirements.txt

results=${RESULTS:-results/demo}
run() {
    python main_informer.py --model informer --data demo --features M --seq_len 48 --label_len 48 \
        --pred_len 24 --d_model 64 --d_ff 256 --n_heads 4 --factor 3 --train_epochs 3 \
        --learning_rate 0.0005 --itr 1 --do_predict --results "$results" "$@"
}
run --lam 2 --lip_sign minus "$@"
run --lam 0 "$@"
run --lam 2 --lip_sign plus "$@"

python -m exp.table --results "$results" --features M
python -m exp.report --results "$results" # the same with figures, as one page
python - "$results" <<'ANSWER'
import sys
from pathlib import Path

from exp.record import read_runs

runs = read_runs(Path(sys.argv[1])).sort_values(["seed", "lip_coef"])
print("\nIn each run's folder: settings, scores, plots, and the dated forecast (prediction.csv):")
for run in runs["run"]:
    print(f"  {sys.argv[1]}/{run}")
scores = ", ".join(f"{run.mse:.3f} with c = {run.lip_coef:+g}" for run in runs.itertuples())
peers = runs[["last_mse", "day_mse", "ridge_mse"]].iloc[0]
print(f"\nTest MSE: {scores};", "last value {:.3f}, a day ago {:.3f}, ridge {:.3f}.".format(*peers))
print(f"Informer is better than {sum(runs['mse'].max() < peers)} of these three baselines,")
print("and one seed cannot say which sign of c helps: bash scripts/sweep.sh --help")
ANSWER
