#!/usr/bin/env bash
# The paper's runs on WTH (Informer's Weather): lambda 0 and 2, both signs, 3 seeds,
# LipReg along the feature axis as in the released code (AXIS=time: as in the paper's text).
# Variables and arguments: sweep_lib.sh.
# shellcheck source=scripts/sweep_lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/sweep_lib.sh"
SEEDS=${SEEDS:-0 1 2}

# features pred_len seq_len label_len e_layers d_layers factor
sweep WTH "$@" <<'TABLE'
M    24  168  168  3  2  5
M    48   96   96  2  1  5
M   168  336  168  3  2  5
M   336  720  168  3  2  5
M   720  720  336  3  2  5
S    24  720  168  2  1  5
S    48  720  168  2  1  5
S   168  168  168  3  2  5
S   336  336  336  3  2  5
S   720  720  336  3  2  5
TABLE
