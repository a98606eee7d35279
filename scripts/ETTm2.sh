#!/usr/bin/env bash
# ETTm2, which the paper does not have, with the settings of ETTm1.
DATA=ETTm2 exec bash "$(dirname "${BASH_SOURCE[0]}")/ETTm1.sh" "$@"
