"""Disks that fill up, files that rot, and files that would run code when they are read."""

import errno
import hashlib
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from exp.checkpoint import TrainState, load_state, state_files
from exp.forecast import forecast
from exp.record import read_arrays, read_runs
from tests.runs import ROOT, STEPS, numbers, only_run, tiny
from utils.files import UserError, read_json, write_json

KINDS = ["config", "state-", "history", "window_errors", "weights", "metrics"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_one_line_and_costs_nothing(kind, finished, tmp_path, monkeypatch, capsys):
    real = os.fsync

    def full(descriptor: int) -> None:
        if kind in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("exp.checkpoint.SAVE_SECONDS", 0)
        patch.setattr(os, "fsync", full)
        assert tiny(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the disk is full: free some space and run the same command again" in line
    folder = only_run(tmp_path)
    assert not list(folder.glob(".tmp-*")) and not (folder / "metrics.json").exists()
    assert tiny(tmp_path) == 0
    assert numbers(folder) == numbers(finished)


def test_a_full_disk_for_real(finished, tmp_path, capsys):
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    try:
        assert tiny(tmp_path / "results") == 2
        assert "the disk is full" in capsys.readouterr().err
        subprocess.run(["mount", "-o", "remount,size=50m", str(tmp_path)], check=True)
        assert tiny(tmp_path / "results") == 0
        assert numbers(only_run(tmp_path / "results")) == numbers(finished)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_results_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert tiny(tmp_path / "file" / "results") == 2
    assert "cannot be made, Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(damage, tmp_path, capsys):
    model = torch.nn.Linear(1000, 1)
    optimizer = torch.optim.Adam(model.parameters())
    state = TrainState(tmp_path, model, optimizer, steps=9, epochs=1)
    for state.progress.step in (5, 6, 7):
        state.save()
    newest, before = state_files(tmp_path)  # no more than two are kept
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content[: len(content) // (2 if damage == "truncated" else 1)])
    body = load_state(tmp_path)
    assert body is not None and body["progress"]["step"] == 6
    assert f"{newest.name} is damaged" in capsys.readouterr().out
    assert state_files(tmp_path) == [before]


@pytest.mark.parametrize(
    ("name", "broken"), [("metrics.json", '{"schema": 1, "id'), ("config.json", "[1]")]
)
def test_damaged_json_is_named_and_not_overwritten(name, broken, finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / finished.name)
    (folder / name).write_text(broken)
    assert tiny(tmp_path) == 2
    error = f"error: {folder / name}: damaged (not a JSON object)"
    assert capsys.readouterr().err.startswith(error)
    assert list(read_runs(tmp_path)["status"]) == ["damaged"]
    assert tiny(tmp_path, "--force") == 0
    assert (tmp_path / f"{folder.name}.replaced-1" / name).read_text() == broken
    assert list(read_runs(tmp_path)["status"]) == ["finished"]


def test_damaged_and_missing_arrays_are_named(finished, tmp_path):
    content = (finished / "trace.npz").read_bytes()
    (tmp_path / "trace.npz").write_bytes(content[: len(content) // 2])
    for name in ("trace", "window_errors"):
        with pytest.raises(UserError, match=f"{tmp_path}/{name}.npz: not there, or damaged"):
            read_arrays(tmp_path, name)


def test_json_refuses_what_json_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"mse": float("nan")})
    assert list(tmp_path.iterdir()) == []


FORMATS: dict[str, Callable[[Any, Path], object]] = {
    "zip": torch.save,
    "legacy": lambda body, path: torch.save(body, path, _use_new_zipfile_serialization=False),
    "bare": lambda body, path: path.write_bytes(pickle.dumps(body, protocol=2)),
}


class Bait:
    """Makes a file when it is unpickled by anything that runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_would_run_code_is_refused(kind, finished, tmp_path, capsys):
    folder, ran = shutil.copytree(finished, tmp_path / "results" / finished.name), tmp_path / "ran"
    weights, metrics = folder / "weights.pt", read_json(folder / "metrics.json")
    body = {"enc_embedding.weight": Bait(ran), "best": {"weight": Bait(ran)}}
    FORMATS[kind](body, weights)
    if kind == "bare":
        pickle.loads(weights.read_bytes())
    else:
        torch.load(weights, weights_only=False)
    assert ran.exists()  # the bait works where it is swallowed
    ran.unlink()
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    write_json(folder / "metrics.json", {**metrics, "weights_sha256": sha256})  # it holds

    with pytest.raises(UserError, match=f"{weights}: not a plain weights file"):
        forecast(folder, pd.read_csv(ROOT / "tests" / "part.csv"))
    assert not ran.exists()

    (folder / "metrics.json").unlink()  # as if the run had been cut off: a checkpoint is read
    planted = weights.rename(folder / f"state-{STEPS:09d}-{sha256[:16]}.pt")
    assert tiny(folder.parent) == 0  # the run begins anew
    assert f"warning: {planted.name}" in capsys.readouterr().out
    assert not ran.exists() and not planted.exists()
    assert read_json(folder / "metrics.json")["all"] == metrics["all"]
