# shellcheck shell=bash
# Sourced by the other scripts: an environment with the requirements, at the project's root.
# An active virtual or conda environment is used as it is; otherwise .venv is made here.
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# setup FILE: install the requirements that FILE lists, unless INSTALL=no.
setup() {
    if [ "${INSTALL:-}" = no ]; then return; fi
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
        if [ ! -x .venv/bin/python ]; then
            local python
            python=$(command -v python3.11 || echo python3)
            "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: install Python 3.11")'
            "$python" -m venv .venv || { rm -rf .venv; exit 2; }
        fi
        # shellcheck disable=SC1091
        source .venv/bin/activate
    fi
    python -m pip install --quiet --disable-pip-version-check --requirement "$1"
}
