#!/usr/bin/env bash
# The paper's runs on ETTh2: --help lists variables, flags and settings.
exec bash "$(dirname "${BASH_SOURCE[0]}")/sweep.sh" ETTh2 "$@"
