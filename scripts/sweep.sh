#!/usr/bin/env bash
# Runs with and without LipReg: the paper's on one of its data sets, or others on your own CSV file.
[ -f "${1:-}" ] && own=$(cd "$(dirname "$1")" && pwd)/$(basename "$1") # setup.sh changes the folder
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

variables="MODEL LAMS SIGNS SEEDS FEATURES PRED_LENS AXIS JOBS RUNS_PER_GPU ENGINE SHARD RESULTS"
data=${1:---help}
rows_of=${data/ETTm2/ETTm1} # the paper does not have ETTm2
table=paper/published/${MODEL:-informer}_settings.csv

show_help() {
    cat <<HELP
usage: [VARIABLE=...] bash scripts/ETTh2.sh [FLAG...]                             the paper's runs
       [VARIABLE=...] bash scripts/sweep.sh FILE.csv --target COLUMN [FLAG...]    your own file

Runs each horizon of the paper (on your own file: 24) for each lambda, sign and seed. What is done
is skipped, what was cut off is continued.

  MODEL=informer        the settings of paper/published/MODEL_settings.csv
  LAMS="0 2"            weights lambda of LipReg; 0 is one run, whichever the sign
  SIGNS="minus plus"    loss = MSE + c LipReg with c = -lambda, with c = +lambda
  SEEDS="0 1 2 3 4"     as many repetitions as the paper has (on WTH: 0 1 2)
  FEATURES="S M"        S: the target alone, M: all columns (on your own file: S; or MS)
  PRED_LENS="24 48"     only these horizons (all)
  AXIS=feature          LipReg along feature, as in the released code, or time, as in the paper
  JOBS=N                runs at a time (one per core, or RUNS_PER_GPU on each GPU)
  RUNS_PER_GPU=1        runs side by side on one GPU, or auto
  ENGINE=local          or ray, a cluster (--address, --gpus_per_run)
  SHARD=1/1             a share of the runs: 3/16
  RESULTS=results       folder of the runs
  INFORMER_DATA=FOLDER  of the CSV files (ETT/ETTh1.csv, WTH/WTH.csv, ...); without it, what
                        python -m data.download has fetched

Flags go to the sweep (--plan: what there is to do, and how long it takes) or to every run (--amp
bf16). python -m exp.sweep --help and python main_informer.py --help list them.

Five seeds cannot show which sign helps (p is 0.0625 at best), eight and more can:
  FEATURES=S PRED_LENS=24 SEEDS="0 1 2 3 4 5 6 7" JOBS=2 bash scripts/ETTh2.sh
The paper's choice of lambda, along its own axis, as a plan:
  LAMS="0 1 2 3 4 5 6 7 8" AXIS=time bash scripts/ETTh2.sh --plan
HELP
    echo $'\n'"Settings, from $table:"
    [ "${MODEL:-informer}" = informer ] || echo "(assumed: the paper does not publish this model's)"
    grep -E "^(dataset|${rows_of/--help/.*})," "$table" | tr , '\t'
}

stop() {
    echo "error: $* (bash scripts/sweep.sh --help)" >&2
    exit 2
}

if [[ " $data $* " == *" --help "* ]]; then show_help; exit; fi
for name in $(compgen -e); do # one that is almost ours would go by unnoticed
    plain=${name//[S_]/}
    for known in $variables; do
        if [ "$name" != "$known" ] && [ "${plain/LAMBDA/LAM}" = "${known//[S_]/}" ]; then
            stop "$name: unknown variable, did you mean $known?"
        fi
    done
done
shift
default_seeds="0 1 2 3 4" settings=""
if [ -n "${own:-}" ]; then
    common=(--data custom --root_path "$(dirname "$own")" --data_path "$(basename "$own")")
    all_features=S all_pred_lens=24
else
    [ -f "$table" ] || stop "MODEL=$MODEL: no file $table"
    common=(--data "$data")
    rows=$(grep "^$rows_of," "$table") || stop "$data: neither a CSV file nor a data set in $table"
    all_features=$(cut -d, -f2 <<<"$rows" | sort -u | xargs)
    all_pred_lens=$(cut -d, -f3 <<<"$rows" | sort -un | xargs)
    if [ "$data" = WTH ]; then default_seeds="0 1 2"; fi
fi
for features in ${FEATURES:-$all_features}; do
    for pred_len in ${PRED_LENS:-$all_pred_lens}; do
        settings+="--features $features --pred_len $pred_len"
        if [ -z "${own:-}" ]; then
            row=$(grep "^$rows_of,$features,$pred_len," <<<"$rows") ||
                stop "FEATURES=$features PRED_LENS=$pred_len: $data has only $all_features; $all_pred_lens"
            IFS=, read -r _ _ _ seq_len label_len e_layers d_layers factor _ <<<"$row"
            settings+=" --seq_len $seq_len --label_len $label_len --e_layers $e_layers"
            settings+=" --d_layers $d_layers --factor $factor"
        fi
        settings+=$'\n'
    done
done
if [ "${ENGINE:-local}" = ray ]; then setup requirements-ray.txt; else setup requirements.txt; fi
echo "LipReg along the ${AXIS:-feature} axis (the released code's is feature, the paper's time)"
# shellcheck disable=SC2086 # several words each
exec python -m exp.sweep --settings - --lams ${LAMS:-0 2} --signs ${SIGNS:-minus plus} \
    --seeds ${SEEDS:-$default_seeds} --engine "${ENGINE:-local}" --shard "${SHARD:-1/1}" \
    ${JOBS:+--jobs "$JOBS"} ${RUNS_PER_GPU:+--runs_per_gpu "$RUNS_PER_GPU"} "${common[@]}" \
    --model "${MODEL:-informer}" --lip_axis "${AXIS:-feature}" --results "${RESULTS:-results}" \
    "$@" <<<"$settings"
