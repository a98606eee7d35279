#!/usr/bin/env bash
# The paper's runs on WTH (Informer's Weather): --help lists variables, flags and settings.
exec bash "$(dirname "${BASH_SOURCE[0]}")/sweep.sh" WTH "$@"
