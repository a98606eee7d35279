# shellcheck shell=bash
# Sourced by the scripts of the data sets: turns a table of settings into a sweep of runs.
# These variables widen or narrow it, with their defaults:
#   LAMS="0 2"  SIGNS="minus plus"  SEEDS="0 1 2 3 4"
#   FEATURES="S M"  PRED_LENS="24 48"   only these rows of the table (all)
#   AXIS=feature|time                   what LipReg differences along (feature)
#   ENGINE=local|ray  JOBS=2  SHARD=3/16  RESULTS=results
# Arguments go to every run (--amp bf16) or to the sweep (--plan, --address, --gpus_per_run).
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# settings DATA: read the table, print the chosen rows as flags of main_informer.py.
settings() {
    local features pred_len seq_len label_len e_layers d_layers factor
    while read -r features pred_len seq_len label_len e_layers d_layers factor; do
        [[ " ${FEATURES:-$features} " == *" $features "* ]] || continue
        [[ " ${PRED_LENS:-$pred_len} " == *" $pred_len "* ]] || continue
        echo "--model informer --data $1 --features $features --pred_len $pred_len" \
            "--seq_len $seq_len --label_len $label_len" \
            "--e_layers $e_layers --d_layers $d_layers --factor $factor"
    done
}

# sweep DATA [ARGUMENT...]: run the table on standard input.
sweep() {
    local data=$1 lams signs seeds optional=()
    shift
    read -ra lams <<<"${LAMS:-0 2}"
    read -ra signs <<<"${SIGNS:-minus plus}"
    read -ra seeds <<<"${SEEDS:-0 1 2 3 4}"
    if [ -n "${JOBS:-}" ]; then optional+=(--jobs "$JOBS"); fi
    if [ "${ENGINE:-local}" = ray ]; then setup requirements-ray.txt; else setup requirements.txt; fi
    echo "LipReg along the ${AXIS:-feature} axis (the released code's is feature, the paper's time)"
    exec python -m exp.sweep --settings <(settings "$data") \
        --lams "${lams[@]}" --signs "${signs[@]}" --seeds "${seeds[@]}" \
        --engine "${ENGINE:-local}" --shard "${SHARD:-1/1}" ${optional[@]+"${optional[@]}"} \
        --lip_axis "${AXIS:-feature}" --results "${RESULTS:-results}" "$@"
}
