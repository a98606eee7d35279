#!/usr/bin/env bash
exec bash "$(dirname "${BASH_SOURCE[0]}")/sweep.sh" WTH "$@" # --help lists variables, flags, settings
