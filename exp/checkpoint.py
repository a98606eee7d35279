"""What of a training must survive a kill, and its files: whole, or refused by their checksum."""

import contextlib
import io
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.files import UserError, sha256_of, write_atomic

TRACE = ("mse", "lip_time", "lip_feature", "l_f")
POSITION = ("epoch", "step", "trained", "best_val", "best_epoch", "waited", "seconds", "history")


class TrainState:
    """Model, optimizer, measurements and position of one training, from its last checkpoint on."""

    def __init__(self, model: torch.nn.Module, steps: int, epochs: int, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.steps, self.epochs = steps, epochs  # of an epoch; at most
        self.optimizer = torch.optim.Adam(model.parameters(), fused=True)
        self.device = next(model.parameters()).device
        self.trace = torch.zeros(epochs * steps, len(TRACE), device=self.device)
        self.epoch = self.step = 0  # epochs trained and validated; steps done in the next
        self.trained = False  # no epoch is left, by number or by early stopping
        self.best_val: float | None = None  # lowest validation MSE
        self.best_epoch = self.waited = 0  # its epoch, from 1; epochs since then
        self.best: dict[str, Tensor] = {}  # the model's weights of that epoch
        self.history: list[dict[str, Any]] = []  # one row an epoch
        self.seconds = 0.0  # computing time up to the last checkpoint, over all sittings
        self.begun = time.monotonic()
        self._restore()

    @property
    def position(self) -> int:
        """Training steps done in all."""
        return self.epoch * self.steps + self.step

    def add_step(self, measures: Tensor) -> None:
        """Note a training step's MSE, LipReg on both axes and L_f [4], on the device."""
        self.trace[self.position] = measures
        self.step += 1

    def epoch_trace(self) -> Tensor:
        """Return the trace of the epoch under way, which waits for the device: [step, 4]."""
        return self.trace[self.epoch * self.steps : self.position].cpu()

    def end_epoch(self, measures: dict[str, float], patience: int) -> dict[str, Any]:
        """Close the epoch under way: early stopping, best weights, checkpoint.

        The epoch's row of the history, with val_mse and other `measures`, is returned.
        """
        means = self.epoch_trace().double().mean(0).tolist()
        self.epoch, self.step = self.epoch + 1, 0
        row: dict[str, Any] = {"epoch": self.epoch, "lr": self.optimizer.param_groups[0]["lr"]}
        row |= {f"train_{name}": mean for name, mean in zip(TRACE, means, strict=True)}
        spent = self.seconds + time.monotonic() - self.begun  # over all sittings
        earlier = sum(past["seconds"] for past in self.history)
        row |= {**measures, "seconds": round(spent - earlier, 3)}
        self.history.append(row)
        if self.best_val is None or row["val_mse"] <= self.best_val:
            self.best_val, self.best_epoch, self.waited = row["val_mse"], self.epoch, 0
            self.best = {name: value.clone() for name, value in self.model.state_dict().items()}
        else:
            self.waited += 1
        self.trained = self.waited >= patience or self.epoch == self.epochs
        self.save()
        return row

    def curves(self) -> dict[str, np.ndarray]:
        """Return the trace of the epochs that are closed, with the epoch of each step [n]."""
        rows = self.trace[: self.epoch * self.steps].cpu().numpy()
        epoch = np.arange(1, len(rows) + 1) / self.steps
        return {"epoch": epoch, **{name: rows[:, i] for i, name in enumerate(TRACE)}}

    def save(self) -> None:
        """Write a checkpoint of everything, then drop all but the newest two."""
        now = time.monotonic()
        self.seconds, self.begun = self.seconds + now - self.begun, now
        cuda = self.device.type == "cuda"
        content = serialise(
            {
                "progress": {name: getattr(self, name) for name in POSITION},
                "model": self.model.state_dict(),
                "best": self.best,
                "optimizer": self.optimizer.state_dict(),
                "trace": self.trace,
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
            }
        )
        name = f"state-{self.position:09d}-{sha256_of(content)[:16]}.pt"
        write_atomic(self.folder / name, content)
        remove_states(self.folder, keep=2)

    def _restore(self) -> None:
        """Go on from the newest sound checkpoint, if there is one."""
        state = load_state(self.folder)
        if state is None:
            return
        for name in POSITION:
            setattr(self, name, state["progress"][name])
        self.model.load_state_dict(state["model"])
        self.best = {name: value.to(self.device) for name, value in state["best"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.trace.copy_(state["trace"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
        print(f"continuing at epoch {self.epoch + 1}, step {self.step}")


def state_files(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, newest first."""
    return sorted(folder.glob("state-*.pt"), reverse=True)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Read the newest sound checkpoint; a damaged one is named, removed and passed over."""
    for path in state_files(folder):
        content = path.read_bytes()
        if path.stem.endswith(f"-{sha256_of(content)[:16]}"):
            with contextlib.suppress(pickle.UnpicklingError):  # nothing that this project wrote
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        print(f"warning: {path.name} is damaged; going back to the checkpoint before it")
        path.unlink()
    return None


def remove_states(folder: Path, keep: int = 0) -> None:
    """Remove all checkpoints but the newest."""
    for path in state_files(folder)[keep:]:
        path.unlink()


def serialise(state: dict[str, Any]) -> bytes:
    """Return what torch.save writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def load_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a model's weights without running any code that the file may hold.

    The file is weights or a checkpoint of this project, or a state_dict of Informer2020's;
    `sha256` is its checksum, where known. A UserError if it is missing, damaged or more than that.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    if sha256 and sha256_of(content) != sha256:
        raise UserError(f"{path}: damaged (its checksum does not hold); train anew with --force")
    try:
        if not content.startswith(b"PK"):
            raise pickle.UnpicklingError("not in torch's zip format")
        body = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        weights = body.get("best", body)
        if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
            raise ValueError("it holds no weights")
    except Exception as error:  # a flipped bit makes anything of a pickle
        reason = str(error).strip().partition("\n")[0][:80]
        advice = "save a state_dict with torch.save"
        raise UserError(f"{path}: not a plain weights file ({reason}); {advice}") from error
    return {name.removeprefix("module."): value for name, value in weights.items()}


def load_into(model: torch.nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights into a model built from the flags; a UserError names the first difference."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:100]
        advice = "give the flags that the weights were trained with"
        raise UserError(f"{path}: {reason}; {advice}") from error
