"""Runs that are killed, stopped or started twice end as if nothing had happened."""

import signal
import threading
from unittest import mock

import pytest

from models import MODELS
from tests.runs import STEPS, numbers, only_run, run, start, tiny
from utils.interrupt import Interrupted, Stop

POINTS = {  # of tests/fault.py, which saves every four steps: what is printed by the same command
    "checkpoint:2": "continuing at epoch 1, step 4",  # inside the write of the second checkpoint
    "history:2": "continuing at epoch 3, step 0",  # with the epoch's checkpoint written
    "validation:6": "continuing at epoch 2, step 8",  # in the last batch of the evaluation
    "metrics:1": "continuing at epoch 4, step 0",  # all done but the last file
    f"step:{STEPS + 7}": "continuing at epoch 2, step 4",
    f"step:{STEPS + 3}:{signal.SIGTERM:d}": "continuing at epoch 2, step 3",  # saved when asked to
    f"step:{STEPS + 3}:{signal.SIGINT:d}": "continuing at epoch 2, step 3",
}


@pytest.mark.parametrize("fault", POINTS)
def test_killed_or_stopped_and_continued_is_bit_identical(fault, finished, tmp_path, capsys):
    code, _, errors = run(results=tmp_path, script="tests/fault.py", FAULT=fault)
    if number := fault.split(":")[2:]:
        name = signal.Signals(int(*number)).name
        assert errors == f"stopped by {name}; the same command continues\n"
        assert code == 128 + int(*number)
    else:
        assert code == -signal.SIGKILL, errors
    folder = only_run(tmp_path)
    assert not (folder / "metrics.json").exists()
    assert tiny(tmp_path) == 0
    assert POINTS[fault] in capsys.readouterr().out
    assert numbers(folder) == numbers(finished)
    assert not [path.name for path in folder.iterdir() if "tmp" in path.name]


@pytest.mark.parametrize("model", [name for name in MODELS if name != "informer"])
def test_every_model_continues_to_the_same_bits(model, tmp_path, capsys):
    words = ["--model", model, "--train_epochs", "2", "--batch_size", "128"]
    assert tiny(tmp_path / "whole", *words) == 0
    looks = [None] * 10 + [Interrupted(signal.SIGTERM)]  # once, and in 4 steps and 3 evaluations
    with mock.patch.object(Stop, "check", side_effect=looks):
        assert tiny(tmp_path / "cut", *words) == 128 + signal.SIGTERM
    assert tiny(tmp_path / "cut", *words) == 0
    assert "continuing at epoch 2, step 2" in capsys.readouterr().out
    assert numbers(only_run(tmp_path / "cut")) == numbers(only_run(tmp_path / "whole"))


def test_a_second_process_says_so_or_waits(tmp_path, capsys):
    first = start(results=tmp_path)
    assert first.stdout is not None
    _, held = first.stdout.readline(), first.stdout.readline()
    assert "loss = " in held  # printed once it has the run
    first.send_signal(signal.SIGSTOP)  # it keeps the run for as long as the others need
    assert tiny(tmp_path) == 2
    assert "another process has this run" in capsys.readouterr().err
    go_on = threading.Timer(1, first.send_signal, [signal.SIGCONT])
    go_on.start()
    assert tiny(tmp_path, "--wait") == 0
    assert "done before, skipped" in capsys.readouterr().out
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
