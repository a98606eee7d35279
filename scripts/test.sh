#!/usr/bin/env bash
# Linter, type checker and tests. INFORMER_DATA=folder of the benchmark files adds the tests on them.
# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup requirements-dev.txt
export OMP_NUM_THREADS=1
export PYTHONDONTWRITEBYTECODE= # a hundred processes start: none need compile the modules again

ruff check .
ruff format --check .
pyright
shellcheck --external-sources scripts/*.sh scripts/slurm.sbatch .ci/run
echo "tests: a process a core, each on one thread"
python -m pytest --numprocesses auto "$@"
