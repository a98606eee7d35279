"""Disks that fill up, files that rot, weights that are not weights."""

import errno
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from exp.record import read_arrays, read_runs
from exp.state import TrainState, load_state, state_files
from main_informer import main
from tests.runs import TINY, numbers, only_run
from utils.errors import UserError
from utils.files import read_json, write_json

KINDS = ["config", "state-", "history", "trace", "samples", "forecasts.png", "weights", "metrics"]


def tiny(results: Path, *words: str) -> int:
    return main([*TINY, "--train_epochs", "1", "--results", str(results), *words])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("finished")
    assert tiny(results) == 0
    return only_run(results)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_one_line_and_costs_nothing(kind, finished, tmp_path, monkeypatch, capsys):
    real = os.fsync

    def full(descriptor: int) -> None:
        if kind in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert tiny(tmp_path) == 2
    errors = capsys.readouterr().err
    assert "the disk is full: free some space and give the same command again" in errors
    assert len(errors.splitlines()) == 1
    folder = only_run(tmp_path)
    assert not list(folder.glob(".tmp-*"))
    assert not (folder / "metrics.json").exists()
    assert tiny(tmp_path) == 0
    assert numbers(folder) == numbers(finished)


def test_a_full_disk_for_real(finished, tmp_path, capsys):
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"this machine lets nobody mount a small file system: {mount.stderr.strip()}")
    try:
        assert tiny(small / "results") == 2
        assert "the disk is full" in capsys.readouterr().err
        subprocess.run(["mount", "-o", "remount,size=50m", str(small)], check=True)
        assert tiny(small / "results") == 0
        assert numbers(only_run(small / "results")) == numbers(finished)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_results_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert tiny(tmp_path / "file" / "results") == 2
    assert "cannot be made, Not a directory" in capsys.readouterr().err


def test_a_data_file_that_vanished(tmp_path, capsys):
    words = ["--data", "custom", "--root_path", str(tmp_path), "--data_path", "gone.csv"]
    assert tiny(tmp_path / "results", *words) == 2
    assert "gone.csv" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(damage, tmp_path, capsys):
    state = TrainState(torch.nn.Linear(1000, 1), 1e-3, 9, 1, tmp_path)
    for state.step in (5, 6, 7):
        state.save()
    newest = state_files(tmp_path)[0]
    assert len(state_files(tmp_path)) == 2
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    newest.write_bytes(content[: len(content) // (2 if damage == "truncated" else 1)])
    body = load_state(tmp_path)
    assert body is not None and body["progress"]["step"] == 6
    assert f"{newest.name} is damaged" in capsys.readouterr().out
    assert [path.name[:15] for path in state_files(tmp_path)] == ["state-000000006"]


@pytest.mark.parametrize("name", ["metrics.json", "config.json"])
@pytest.mark.parametrize("broken", ["", "[1]", '{"schema": 1, "id'])
def test_damaged_json_is_named_and_not_overwritten(name, broken, finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / finished.name)
    path = only_run(tmp_path) / name
    path.write_text(broken)
    assert tiny(tmp_path) == 2
    errors = capsys.readouterr().err
    assert f"{path}: damaged (not a JSON object)" in errors and "--force" in errors
    assert path.read_text() == broken
    assert list(read_runs(tmp_path)["status"]) == ["damaged"]
    assert tiny(tmp_path, "--force") == 0
    aside = [folder for folder in tmp_path.iterdir() if ".replaced-" in folder.name]
    assert (aside[0] / name).read_text() == broken
    assert list(read_runs(tmp_path)["status"]) == ["finished"]


def test_damaged_arrays_are_told(finished, tmp_path):
    content = (finished / "trace.npz").read_bytes()
    (tmp_path / "trace.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged"):
        read_arrays(tmp_path, "trace")
    with pytest.raises(UserError, match="not there"):
        read_arrays(tmp_path, "samples")


class Hostile:
    """A pickle that runs a command when it is opened carelessly."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_hostile_checkpoint_runs_no_code(tmp_path, capsys):
    mark = tmp_path / "ran"
    torch.save({"model": Hostile(mark)}, tmp_path / "hostile.pt")
    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps(Hostile(mark)))
    for name in ("hostile.pt", "hostile.pkl"):
        assert tiny(tmp_path / "results", "--test_only", "--load", str(tmp_path / name)) == 2
        errors = capsys.readouterr().err
        assert "not a plain weights file" in errors and len(errors.splitlines()) == 1
    assert not mark.exists()
    assert not (tmp_path / "results").exists()


def test_json_refuses_what_json_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"mse": float("nan")})
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "x.json", {"mse": 0.1, "list": [1, None, "é"]})
    assert read_json(tmp_path / "x.json") == {"mse": 0.1, "list": [1, None, "é"]}
