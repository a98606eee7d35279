#!/usr/bin/env bash
# Runs with and without LipReg: the paper's on one of its data sets, others on any data, or your own file.
own=""
[ -f "${1:-}" ] && own=$(realpath "$1") # setup.sh changes the folder
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

data=${1:---help} model=${MODEL:-informer}
rows_of=${data/ETTm2/ETTm1} # the paper does not have ETTm2
table=paper/published/${model}_settings.csv

show_help() {
    cat <<HELP
usage: [VARIABLE=...] bash scripts/ETTh2.sh [FLAG...]                             the paper's runs
       [VARIABLE=...] bash scripts/sweep.sh FILE.csv --target COLUMN [FLAG...]    your own file

Runs each horizon for each lambda, sign and seed. What is done is skipped, what was cut off is
continued. Where the paper has no rows, of your own file or MODEL, the lengths are the flags'.

  MODEL=informer        any model; settings from paper/published/MODEL_settings.csv if it is there
  LAMS="0 2"            weights lambda of LipReg; 0 is one run, whichever the sign
  SIGNS="minus plus"    loss = MSE - lambda Lip, loss = MSE + lambda Lip
  SEEDS="0 1 2 3 4"     as many repetitions as the paper has (on WTH: 0 1 2)
  FEATURES="S M"        S: the target alone, M: all columns, MS (without the paper's rows: S)
  PRED_LENS="24 48"     only these horizons (all; without the paper's rows: 24)
  AXIS=feature          LipReg along feature, as in the released code, or time, as in the paper
  JOBS=N                runs at a time (one per core and 4 GB, or RUNS_PER_GPU on each GPU)
  RUNS_PER_GPU=1        runs side by side on one GPU
  ENGINE=local          or ray, the cluster that RAY_ADDRESS names, or the one started here
  SHARD=1/1             a share of the runs: 3/16
  RESULTS=results       folder of the runs
  INFORMER_DATA=FOLDER  of the CSV files (ETT/ETTh1.csv, WTH/WTH.csv, ...); without it, what
                        python -m data.download has fetched

Flags go to the sweep (--plan: what there is to do, and how long it takes) or to every run (--amp
bf16). python -m exp.sweep --help and python main_informer.py --help list them.

Five seeds cannot show which sign helps (p is 0.0625 at best), eight and more can:
  FEATURES=S PRED_LENS=24 SEEDS="0 1 2 3 4 5 6 7" JOBS=2 bash scripts/ETTh2.sh
HELP
    [ -f "$table" ] || return 0
    echo $'\n'"Settings, from $table (transformer's and autoformer's are assumed):"
    grep -E "^(dataset|${rows_of/--help/.*})," "$table" | tr , '\t'
}

stop() {
    echo "error: $* (bash scripts/sweep.sh --help)" >&2
    exit 2
}

settings() { # a line of flags for each of FEATURES and PRED_LENS
    local features pred_len
    if [ -z "$own" ] && grep -qs "^$rows_of," "$table"; then
        awk -F, -v data="$rows_of" -v features="${FEATURES:-}" -v pred_lens="${PRED_LENS:-}" '
            function wanted(list, one) { return !list || index(" " list " ", " " one " ") }
            NR == 1 { split($0, names) }
            $1 == data && wanted(features, $2) && wanted(pred_lens, $3) {
                for (i = 2; i < 9; i++) printf "--%s %s ", names[i], $i
                print ""
            }' "$table"
        return
    fi
    for features in ${FEATURES:-S}; do
        for pred_len in ${PRED_LENS:-24}; do echo "--features $features --pred_len $pred_len"; done
    done
}

if [[ " $data $* " == *" --help "* ]]; then show_help; exit; fi
if [ -z "$own" ] && [[ $data == *[./]* ]]; then stop "$data: no such file"; fi
shift
file=(--data "$data") seeds="0 1 2 3 4"
if [ "$data" = WTH ]; then seeds="0 1 2"; fi
if [ -n "$own" ]; then file=(--data custom --root_path "${own%/*}" --data_path "${own##*/}"); fi
lines=$(settings)
for one in ${FEATURES:-} ${PRED_LENS:-}; do # each that was asked for
    grep -qE -- "--(features|pred_len) $one( |$)" <<<"$lines" || stop "$one: $data has no such row in $table"
done
if [ "${ENGINE:-local}" = ray ]; then setup requirements-ray.txt; else setup requirements.txt; fi
# shellcheck disable=SC2086 # several words each
exec python -m exp.sweep --settings - --lams ${LAMS:-0 2} --signs ${SIGNS:-minus plus} \
    --seeds ${SEEDS:-$seeds} --engine "${ENGINE:-local}" --shard "${SHARD:-1/1}" \
    ${JOBS:+--jobs "$JOBS"} --runs_per_gpu "${RUNS_PER_GPU:-1}" "${file[@]}" \
    --model "$model" --lip_axis "${AXIS:-feature}" --results "${RESULTS:-results}" \
    "$@" <<<"$lines"
