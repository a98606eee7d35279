"""Fixtures that find the benchmark files and the golden arrays, and that start sweeps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paper.signs import Preregistration, read_hypotheses
from tests.runs import ROOT, only_run, tiny
from tests.sweeps import SETTING


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Compute on one thread, as the processes that tests start do: same threads, same bits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def benchmark() -> Path:
    """Folder of the benchmark files (ETT/, WTH/, weather/)."""
    folder = os.environ.get("INFORMER_DATA")
    if not folder:
        assert not os.environ.get("CI"), "INFORMER_DATA must be set where CI is"
        pytest.skip("INFORMER_DATA is not set: it names the folder of the benchmark CSV files")
    path = Path(folder).resolve()
    assert path.is_dir(), f"INFORMER_DATA names {path}, which is not a folder"
    return path


@pytest.fixture(scope="session")
def golden(benchmark: Path) -> Path:
    """Folder of the full golden arrays, beside the benchmark files."""
    path = benchmark.parent / "golden"
    if not path.is_dir():
        pytest.skip(f"no golden arrays: {path} is not there")
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of the tiny setting that nothing happened to."""
    results = tmp_path_factory.mktemp("finished")
    assert tiny(results) == 0
    return only_run(results)


@pytest.fixture
def start_sweep():
    """Start real sweeps; those that a failed test leaves behind are killed."""
    sweeps: list[subprocess.Popen[str]] = []

    def start_one(*words: str, results: Path) -> subprocess.Popen[str]:
        sweep = subprocess.Popen(
            [sys.executable, "-m", "exp.sweep", *SETTING, "--results", str(results), *words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        sweeps.append(sweep)
        return sweep

    yield start_one
    for sweep in sweeps:
        with sweep:
            sweep.kill()


@pytest.fixture(scope="session")
def named() -> Preregistration:
    return read_hypotheses()
