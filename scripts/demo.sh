#!/usr/bin/env bash
# Three short runs on the embedded data (MSE - 2 Lip, MSE, MSE + 2 Lip), a table that compares them, and the answer.
# RESULTS=FOLDER (results/demo) holds the runs; arguments go to every run.
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup requirements.txt

results=${RESULTS:-results/demo}
echo "demo: three runs, one after the other, each on one thread (--threads N for more)"
for loss in "--lam 2 --lip_sign minus" "--lam 0" "--lam 2 --lip_sign plus"; do
    # shellcheck disable=SC2086 # several words
    python main_informer.py --model informer --data demo --features M --seq_len 48 --label_len 48 \
        --pred_len 24 --d_model 64 --d_ff 256 --n_heads 4 --factor 3 --train_epochs 2 \
        --learning_rate 0.0005 --itr 1 --do_predict --threads 1 --results "$results" $loss "$@"
done

python -m paper.report --results "$results" --data demo # the same with figures, as one page
echo "each run's folder, $results/informer_demo_*, has the dated forecast, prediction.csv"
python -m paper.tables --results "$results" --data demo # the answer
