"""Runs that are killed, stopped or started twice end as if nothing had happened."""

import random
import signal
import time
from pathlib import Path

import pytest

from main_informer import main
from tests.runs import TINY, numbers, only_run, run, same_weights, start

STEPS = 23  # of an epoch of the tiny setting
SEEDED = random.Random(20230501)
POINTS = [
    "checkpoint:2",  # inside the write of the second checkpoint
    "history:3",  # between the last checkpoint and the record of its epoch
    "validation:6",  # during an evaluation
    "metrics:1",  # all done but the last file
    *(f"step:{SEEDED.randrange(2, 3 * STEPS)}" for _ in range(2)),
]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    results = tmp_path_factory.mktemp("untouched")
    assert main([*TINY, "--results", str(results)]) == 0
    return only_run(results)


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_continued_is_bit_identical(
    point: str, untouched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code, _, errors = run(results=tmp_path, script="tests/fault.py", FAULT=point)
    assert code == -signal.SIGKILL, errors
    folder = only_run(tmp_path)
    assert not (folder / "metrics.json").exists()
    assert main([*TINY, "--results", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert ("continuing" in output) == (
        point.split(":", maxsplit=1)[0] != "step" or int(point[5:]) > STEPS
    )
    assert numbers(folder) == numbers(untouched)
    assert same_weights(folder, untouched)
    assert not [path.name for path in folder.iterdir() if "tmp" in path.name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_an_epoch_continues_there(
    number: signal.Signals,
    untouched: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    process = start(results=tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    process.send_signal(number)
    begun = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - begun < 10
    assert process.returncode == 128 + number
    assert errors == f"stopped by {number.name}; the same command continues\n"
    assert main([*TINY, "--results", str(tmp_path)]) == 0
    assert "continuing at epoch" in capsys.readouterr().out
    assert numbers(only_run(tmp_path)) == numbers(untouched)
    assert same_weights(only_run(tmp_path), untouched)


def test_a_second_process_says_who_has_the_run_or_waits(tmp_path: Path):
    first = start(results=tmp_path)
    assert first.stdout is not None
    first.stdout.readline()
    first.send_signal(signal.SIGSTOP)  # it keeps the run for as long as the others need
    third = start("--wait", results=tmp_path)
    second_code, _, errors = run(results=tmp_path)
    assert second_code == 2
    assert f"process {first.pid} on " in errors and "has this run" in errors
    assert len(errors.splitlines()) == 1
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=60)
    output, errors = third.communicate(timeout=60)
    assert (first.returncode, third.returncode) == (0, 0), errors
    assert "done before, skipped" in output
