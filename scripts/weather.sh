#!/usr/bin/env bash
# The paper's Transformer and Autoformer runs on weather (MODEL=transformer or autoformer): --help.
MODEL=${MODEL:-autoformer} exec bash "$(dirname "${BASH_SOURCE[0]}")/sweep.sh" weather "$@"
