#!/usr/bin/env bash
exec bash "$(dirname "${BASH_SOURCE[0]}")/sweep.sh" ETTh1 "$@" # --help lists variables, flags, settings
