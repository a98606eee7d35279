"""Checkpoints that are whole or refused: each file's name holds the hash of its content."""

import hashlib
import io
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError
from utils.files import sha256_of, write_atomic

UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError),
    *(LookupError, TypeError, AttributeError),  # what a flipped bit makes of a pickle
)
KEPT = 2  # the newest and the one before


@dataclass
class Progress:
    """How far a run has come.

    Args:
        epoch: epochs trained and validated.
        step: training steps done in the epoch under way.
        trained: no epoch is left, by number or by early stopping.
        best_val: lowest validation MSE so far; None before the first.
        best_epoch: its epoch, from 1.
        waited: epochs since then.
        seconds: computing time so far, over all sittings.
        history: one row an epoch.
    """

    epoch: int = 0
    step: int = 0
    trained: bool = False
    best_val: float | None = None
    best_epoch: int = 0
    waited: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(folder: Path, position: int, state: dict[str, Any]) -> None:
    """Write a checkpoint, then drop all but the newest two.

    Args:
        folder: where checkpoints of this run are.
        position: training steps done, which orders the files.
        state: tensors, numbers, texts, lists and dicts.
    """
    content = serialise(state)
    name = f"state-{position:09d}-{sha256_of(content)[:16]}.pt"
    write_atomic(folder / name, content)
    others = [path for path in state_files(folder) if path.name != name]
    for path in others[KEPT - 1 :]:
        path.unlink()


def state_files(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, newest first."""
    return sorted(folder.glob("state-*.pt"), reverse=True)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Read the newest sound checkpoint; a damaged one is told, removed and passed over.

    Args:
        folder: where checkpoints of this run are.

    Returns:
        What `save_state` was given, or None where no checkpoint is sound.
    """
    for path in state_files(folder):
        content = path.read_bytes()
        named = re.fullmatch(r"state-\d+-([0-9a-f]{16})", path.stem)
        if named and sha256_of(content)[:16] == named[1]:
            try:
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:  # nothing that this project wrote
                print(f"warning: {path.name}: {str(error).splitlines()[0]}")
        print(f"warning: {path.name} is damaged; going back to the checkpoint before it")
        path.unlink()
    return None


def remove_states(folder: Path) -> None:
    """Remove the checkpoints of a run that has ended."""
    for path in state_files(folder):
        path.unlink()


def serialise(state: dict[str, Any]) -> bytes:
    """Return what torch.save writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def load_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a model's weights without running any code that the file may hold.

    Args:
        path: weights or a checkpoint of this project, or a state_dict of Informer2020's.
        sha256: what the file's checksum must be, where it is known.

    Returns:
        The state_dict.

    Raises:
        UserError: the file is missing, damaged, or more than weights.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check --load") from error
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{path}: damaged (its checksum does not hold); train anew with --force")
    try:
        if not content.startswith(b"PK"):
            raise pickle.UnpicklingError("not in torch's zip format")
        body = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path}: not a plain weights file, refused unopened ({reason[:80]}); "
            "save a state_dict with torch.save"
        ) from error
    if isinstance(body, dict) and "best" in body:
        body = body["best"]
        if not body:
            raise UserError(f"{path}: no epoch has finished in it yet; continue the run first")
    if not isinstance(body, dict) or not all(isinstance(v, Tensor) for v in body.values()):
        raise UserError(f"{path}: holds no weights; save a state_dict with torch.save")
    return {name.removeprefix("module."): value for name, value in body.items()}


def fit_weights(model: torch.nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights into a model built from the flags.

    Raises:
        UserError: names or shapes differ; the first difference is named.
    """
    own = model.state_dict()
    missing, extra = own.keys() - weights.keys(), weights.keys() - own.keys()
    shapes = [k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape]
    if missing or extra or shapes:
        first = sorted(shapes) or sorted(missing) or sorted(extra)
        kind = "another shape of" if shapes else "no" if missing else "also"
        raise UserError(
            f"{path}: has {kind} {first[0]}; give the flags that the weights were trained with"
        )
    model.load_state_dict(weights)
