#!/usr/bin/env bash
# ETTm2, which the paper does not have, at the settings of ETTm1: --help lists variables, flags and settings.
exec bash "$(dirname "${BASH_SOURCE[0]}")/sweep.sh" ETTm2 "$@"
