#!/usr/bin/env bash
MODEL=${MODEL:-autoformer} exec bash "$(dirname "${BASH_SOURCE[0]}")/sweep.sh" weather "$@" # or MODEL=transformer
