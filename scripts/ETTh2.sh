#!/usr/bin/env bash
# The paper's runs on ETTh2: lambda 0 and 2, both signs, 5 seeds,
# LipReg along the feature axis as in the released code (AXIS=time: as in the paper's text).
# Variables and arguments: sweep_lib.sh.
# shellcheck source=scripts/sweep_lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/sweep_lib.sh"

# features pred_len seq_len label_len e_layers d_layers factor
sweep ETTh2 "$@" <<'TABLE'
M    24   48   48  2  1  5
M    48   96   96  2  1  5
M   168  336  336  3  2  5
M   336  336  168  3  2  5
M   720  720  336  3  2  5
S    24   48   48  2  1  3
S    48   96   96  2  1  5
S   168  336  336  2  1  5
S   336  336  168  3  2  5
S   720  336  336  3  2  5
TABLE
