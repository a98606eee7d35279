#!/usr/bin/env bash
exec bash "$(dirname "${BASH_SOURCE[0]}")/sweep.sh" ETTh2 "$@" # --help lists variables, flags, settings
