#!/usr/bin/env bash
exec bash "$(dirname "${BASH_SOURCE[0]}")/sweep.sh" ETTm2 "$@" # not in the paper: at the settings of ETTm1
