"""One run's folder: written atomically, never overwritten by another, read back as a frame."""

import fcntl
import io
import math
import os
import socket
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from exp.config import RESULTS_VERSION
from utils.errors import UserError
from utils.files import TEMPORARY, advice, canonical, read_json, sha256_of, write_json, write_npz

SCHEMA = 1  # version of the files' layout: README, "What a run leaves behind"
ASIDE = ".replaced-"
SCORES = ("mse", "mae", "rmse", "mape", "mspe")


class Busy(UserError):  # noqa: N818 - no fault, the run is merely taken
    """Another process has the run."""


class Record:
    """A run's folder under results/.

    Args:
        folder: the run's folder, made on `hold`.
        identity: the settings that define the run's numbers.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.identity = identity

    @contextmanager
    def hold(self, wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Own the folder for as long as the context lasts.

        An operating-system lock: it goes with its holder, however that one ends.

        Args:
            wait: called again and again while another process has the run; it sleeps, or raises
                to give up. None: nothing is waited for.

        Raises:
            Busy: another process has the run, and there is no waiting; the message says which.
            UserError: the folder cannot be made or written.
        """
        locks = self.folder.parent / ".locks"  # outside the folder, which --force renames
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            locks.mkdir(exist_ok=True)
            file = (locks / self.folder.name).open("a+")
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written, {advice(error)}") from error
        with file:
            while not _locked(file):
                if wait is None:
                    file.seek(0)
                    holder = file.read().strip() or "another process"
                    raise Busy(
                        f"{self.folder.name}: {holder} has this run; stop it, or wait with --wait"
                    )
                wait()
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            for rest in self.folder.glob(f"{TEMPORARY}*"):
                rest.unlink()  # left by a killed process, since the lock is ours
            yield

    def start(self, environment: dict[str, Any]) -> None:
        """Write config.json before the first step."""
        body = {"schema": SCHEMA, "results_version": RESULTS_VERSION, "id": self.id}
        write_json(
            self.folder / "config.json",
            {**body, "identity": self.identity, "environment": environment},
        )

    @property
    def id(self) -> str:
        """Hash of the identity, in full."""
        return sha256_of(canonical(self.identity).encode())

    def metrics(self) -> dict[str, Any] | None:
        """Return metrics.json, or None while the run has not ended.

        Raises:
            UserError: the file is damaged, or belongs to other settings.
        """
        try:
            body = read_json(self.folder / "metrics.json")
            config = read_json(self.folder / "config.json")
        except FileNotFoundError:
            return None
        if config["id"] != self.id:
            raise UserError(f"{self.folder}: holds a run of other settings; move it away")
        return body

    def finish(self, status: str, body: dict[str, Any]) -> None:
        """Write metrics.json, the last file: with it the run has ended."""
        write_json(self.folder / "metrics.json", {"schema": SCHEMA, "status": status, **body})

    def write_history(self, history: list[dict[str, Any]], trace: dict[str, np.ndarray]) -> None:
        """Write history.json (per epoch) and trace.npz (per step)."""
        write_json(self.folder / "history.json", {"schema": SCHEMA, "epochs": history})
        write_npz(self.folder / "trace.npz", trace)


def _locked(file: TextIO) -> bool:
    """Try to lock a file for this process alone."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def set_aside(folder: Path) -> None:
    """Rename the folder of an earlier run, if it holds one, so that nothing is overwritten."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    number = 1
    while (aside := folder.with_name(f"{folder.name}{ASIDE}{number}")).exists():
        number += 1
    folder.rename(aside)
    folder.mkdir()
    print(f"the earlier record is kept as {aside}")


def read_runs(results: Path) -> pd.DataFrame:
    """Read every run under a results folder into one tidy frame.

    Args:
        results: the folder of runs' folders.

    Returns:
        One row a run: its identity's settings, run (folder name), status (finished, failed,
        unfinished, damaged), error, the scores over all windows (mse, ...) and over the truncated
        set (mse_trunc, ...), the same for the baselines (last_, day_, ridge_), val_mse,
        best_epoch, epochs, wall_seconds, step_seconds, peak_memory_mb. Missing numbers are NaN.

    Raises:
        UserError: there is no such folder.
    """
    if not results.is_dir():
        raise UserError(f"{results}: no such folder; name the folder of runs with --results")
    folders = sorted(path for path in results.iterdir() if (path / "config.json").exists())
    return pd.DataFrame([_read_run(path) for path in folders if ASIDE not in path.name])


def _read_run(folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"run": folder.name, "status": "damaged", "error": None}
    try:
        config = read_json(folder / "config.json")
        row |= config["identity"]
        row |= {"id": config["id"], "results_version": config["results_version"]}
        row |= _flat(read_json(folder / "metrics.json"))
    except FileNotFoundError:
        row["status"] = "unfinished"
    except UserError as error:
        row["error"] = str(error)
    return row


def _flat(metrics: dict[str, Any]) -> dict[str, Any]:
    """Turn metrics.json into columns."""
    names = ("val_mse", "best_epoch", "epochs", "wall_seconds", "step_seconds", "peak_memory_mb")
    row: dict[str, Any] = {name: _number(metrics.get(name)) for name in names}
    row |= {"status": metrics["status"], "error": metrics.get("error")}
    methods = {"": metrics, **{f"{k}_": v for k, v in metrics.get("baselines", {}).items()}}
    for prefix, found in methods.items():
        scores = found or {}
        for suffix, part in (("", "all"), ("_trunc", "truncated")):
            for score in SCORES:
                row[f"{prefix}{score}{suffix}"] = _number((scores.get(part) or {}).get(score))
    return row


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def read_history(folder: Path) -> pd.DataFrame:
    """Read a run's epochs: train and validation MSE, LipReg on both axes, L_f, rate, seconds."""
    return pd.DataFrame(read_json(folder / "history.json")["epochs"])


def read_arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Read a run's trace, samples or forecasts.

    Args:
        folder: the run's folder.
        name: trace, samples or forecasts.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = folder / f"{name}.npz"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise UserError(f"{path}: not there; the run has not written it yet") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}); run it anew with --force") from error
