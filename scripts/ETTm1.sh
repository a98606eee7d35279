#!/usr/bin/env bash
# The paper's runs on ETTm1: lambda 0 and 2, both signs, 5 seeds,
# LipReg along the feature axis as in the released code (AXIS=time: as in the paper's text).
# Variables and arguments: sweep_lib.sh.
# shellcheck source=scripts/sweep_lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/sweep_lib.sh"

# features pred_len seq_len label_len e_layers d_layers factor
sweep "${DATA:-ETTm1}" "$@" <<'TABLE'
M    24  672   96  2  1  5
M    48   96   48  2  1  5
M    96  384  384  2  1  5
M   288  672  288  2  1  5
M   672  672  384  2  1  5
S    24   96   48  2  1  5
S    48   96   48  2  1  5
S    96  384  384  2  1  5
S   288  384  384  2  1  5
S   672  384  384  2  1  5
TABLE
