#!/usr/bin/env bash
exec bash "$(dirname "${BASH_SOURCE[0]}")/sweep.sh" ETTm1 "$@" # --help lists variables, flags, settings
