"""One run's folder: written atomically, never overwritten by another, read back as a frame."""

import io
import itertools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

from exp.config import Config, identity_hash, results_version, setting_hash
from utils.files import (
    UserError,
    advice,
    make_folder,
    read_json,
    write_json,
    write_npz,
)
from utils.interrupt import Stop

SCHEMA = 1  # version of the files' layout: docs/runs.md, "What a run leaves"
ASIDE = ".replaced-"
SCORES = ("mse", "mae", "rmse", "mape", "mspe")
RESULTS = ("val_mse", "best_epoch", "epochs", "wall_seconds", "step_seconds", "peak_memory_mb")
SITTING = ("processor", "threads", "device", "torch", "git_commit", "git_dirty")


class RunFailed(Exception):  # noqa: N818 - the run failed, not the program
    """A loss or an error of a run is not finite."""


class Record:
    """A run's folder under results/, and the settings that define the run's numbers."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity = folder, identity
        self.id = identity_hash(identity)  # its beginning ends the folder's name

    @contextmanager
    def hold(self, wait: Stop | None = None) -> Iterator[None]:
        """Own the folder for as long as the context lasts, by a lock that goes with its holder.

        A UserError if another process has it; with `wait`, wait for that one, or for a signal.
        """
        locks = self.folder.parent / ".locks"  # outside the folder, which --force renames
        make_folder(self.folder)
        make_folder(locks)
        lock = filelock.FileLock(locks / f"{self.folder.name}.lock")
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0.5 if wait else 0)
            except filelock.Timeout:
                if not wait:
                    hint = "another process has this run; stop it, or wait with --wait"
                    raise UserError(f"{self.folder.name}: {hint}") from None
                wait.check()
            except OSError as error:
                raise UserError(f"{self.folder}: cannot be locked, {advice(error)}") from error
        try:
            yield
        finally:
            lock.release()

    def start(self, environment: dict[str, Any], scaler: dict[str, Any] | None = None) -> None:
        """Write config.json before a sitting's first step; earlier sittings stay in it."""
        try:
            before = _read(self.folder / "config.json")
            earlier = [*before["earlier_environments"], before["environment"]]
        except UserError:  # none yet, or a damaged one
            earlier = []
        for key in ("threads", "torch", "processor", "device"):
            if earlier and (was := earlier[-1][key]) != (now := environment[key]):
                print(f"note: {key} is {now}, was {was} before: last digits may differ")
        version = results_version(self.identity)
        body = {"schema": SCHEMA, "results_version": version, "id": self.id}
        body |= {"setting_id": setting_hash(self.identity), "identity": self.identity}
        body |= {"scaler": scaler, "environment": environment}
        write_json(self.folder / "config.json", {**body, "earlier_environments": earlier})

    @property
    def ended(self) -> bool:
        """Tell whether the run has finished or failed."""
        return (self.folder / "metrics.json").exists()

    def metrics(self) -> dict[str, Any] | None:
        """Return metrics.json, or None while the run has not ended; a UserError if damaged."""
        if not self.ended:
            return None
        body = _read(self.folder / "metrics.json")
        if _read(self.folder / "config.json")["id"] != self.id:
            raise UserError(f"{self.folder}: holds a run of other settings; move it away")
        return body

    def finish(self, status: str, body: dict[str, Any]) -> None:
        """Write metrics.json, the last file: with it the run has ended."""
        write_json(self.folder / "metrics.json", {"schema": SCHEMA, "status": status, **body})

    def write_history(self, history: list[dict[str, Any]], trace: dict[str, np.ndarray]) -> None:
        """Write history.json (per epoch) and trace.npz (per step)."""
        write_json(self.folder / "history.json", {"schema": SCHEMA, "epochs": history})
        write_npz(self.folder / "trace.npz", trace)


def find_record(results: Path, config: Config, data_sha256: str, data_path: str) -> Record:
    """Return a run's record, there or not; the folder's name has that of a custom data file."""
    folder = results / config.run_name(data_sha256, data_path)
    return Record(folder, config.identity(data_sha256))


def set_aside(folder: Path) -> None:
    """Rename the folder of an earlier run, so that nothing is overwritten, and make a new one."""
    paths = (folder.with_name(f"{folder.name}{ASIDE}{n}") for n in itertools.count(1))
    aside = next(path for path in paths if not path.exists())
    try:
        folder.rename(aside)
        folder.mkdir()
    except OSError as error:
        raise UserError(f"{folder}: cannot be set aside, {advice(error)}") from error
    print(f"the earlier record is kept as {aside}")


def read_runs(results: Path) -> pd.DataFrame:
    """Read every run under a results folder into one tidy frame.

    Returns:
        One row a run: its identity's settings, setting_id (equal for runs that differ in seed and
        regularizer only), run (folder name), status (finished, failed, unfinished, damaged), error,
        started (the first sitting, ISO 8601 in UTC), SITTING (values joined by " / " where sittings
        differ) and environments (how many combinations of these), data_file (its name), the scores
        over all windows (mse, ...) and over the drop_last windows (mse_drop_last, ...), the same
        for the baselines (last_, day_, week_, ridge_), and RESULTS; NaN where missing.
    """
    try:
        folders = sorted(path for path in results.iterdir() if ASIDE not in path.name)
    except OSError as error:
        text = f"{results}: {error.strerror}; name the folder of runs with --results"
        raise UserError(text) from error
    files = ("config.json", "metrics.json")
    runs = [path for path in folders if any(os.path.lexists(path / name) for name in files)]
    return pd.DataFrame([_read_run(path) for path in runs])


def _read_run(folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"run": folder.name, "status": "damaged", "error": None}
    try:
        config = _read(folder / "config.json")
        identity, last = config["identity"], config["environment"]
        row |= {**identity, **{k: config[k] for k in ("id", "results_version")}}
        row["setting_id"] = config.get("setting_id") or setting_hash(identity)
        sittings = [*config.get("earlier_environments", []), last]
        file = Path(last.get("data_file", "")).name  # of bytes that may be no UTF-8
        row |= {
            "data_file": file.encode(errors="replace").decode(),
            "started": sittings[0].get("started"),
        }
        row["environments"] = len({tuple(map(one.get, SITTING)) for one in sittings})
        for name in SITTING:  # as it is where all sittings agree
            values = list(dict.fromkeys(one.get(name) for one in sittings))
            row[name] = values[0] if len(values) == 1 else " / ".join(map(str, values))
        ended = os.path.lexists(folder / "metrics.json")
        row |= _flat(_read(folder / "metrics.json")) if ended else {"status": "unfinished"}
    except UserError as error:
        row["error"] = str(error)
    return row


def _read(path: Path) -> dict[str, Any]:
    """Read one of a run's JSON files, in the layout that this version knows."""
    try:
        body = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: not there; --force repeats the run") from None
    if body.get("schema") != SCHEMA:
        raise UserError(f"{path}: has schema {body.get('schema')}, not {SCHEMA}; update the code")
    return body


def _flat(metrics: dict[str, Any]) -> dict[str, Any]:
    """Turn metrics.json into columns."""
    row = {"status": metrics["status"], "error": metrics.get("error")}
    numbers = {name: metrics.get(name) for name in RESULTS}
    methods = {"": metrics, **{f"{k}_": v for k, v in metrics.get("baselines", {}).items()}}
    for prefix, scores in methods.items():
        for suffix, part in (("", "all"), ("_drop_last", "truncated")):
            found = (scores or {}).get(part) or {}
            numbers |= {f"{prefix}{score}{suffix}": found.get(score) for score in SCORES}
    return row | {k: math.nan if v is None else v for k, v in numbers.items()}


def read_history(folder: Path) -> pd.DataFrame:
    """Read a run's epochs: train and validation MSE, LipReg on both axes, L_f, rate, seconds."""
    return pd.DataFrame(_read(folder / "history.json")["epochs"])


def read_arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Read a run's arrays: trace, window_errors, ...; a UserError if missing or damaged."""
    path = folder / f"{name}.npz"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # a flipped bit makes anything of a zip file
        advice = "run it anew with --force"
        raise UserError(f"{path}: not there, or damaged ({error}); {advice}") from error
