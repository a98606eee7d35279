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

python -m paper.report --results "$results" --data demo # the same with figures, as one page
echo $'\nIn each run\'s folder: settings, scores, plots, and the dated forecast, prediction.csv:'
ls -d "$results"/informer_demo_*
echo
python -m paper.tables --results "$results" --data demo # the answer
