#!/usr/bin/env bash
# Three short runs on the embedded data (c = -2, 0, +2) and a table that compares them.
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup requirements.txt

results=${RESULTS:-results/demo}
setting=(--model informer --data demo --features S --seq_len 48 --label_len 48 --pred_len 24
    --d_model 64 --d_ff 256 --n_heads 4 --factor 3 --train_epochs 3 --learning_rate 0.0005
    --itr 1 --do_predict --results "$results")

python main_informer.py "${setting[@]}" --lam 2 --lip_sign minus "$@"
python main_informer.py "${setting[@]}" --lam 0 "$@"
python main_informer.py "${setting[@]}" --lam 2 --lip_sign plus "$@"

python -m exp.table --results "$results" --features S
python -m exp.report --results "$results" # the same with figures, as one page
echo
echo "In each run's folder: settings, scores, plots, and the dated forecast:"
for folder in "$results"/informer_*_s0-????????; do
    echo "$folder/ $(cd "$folder" && echo *.json *.png *.csv)"
done
