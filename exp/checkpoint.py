"""What of a training must survive a kill, and its files: whole, or refused by their checksum."""

import contextlib
import io
import pickle
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from utils.files import UserError, sha256_of, write_atomic

SAVE_SECONDS = 60.0  # between checkpoints: what a kill costs at most; one may take a second
TRACE = ("mse", "lip_time", "lip_feature", "l_f")


@dataclass
class Progress:
    """How far a training has come."""

    epoch: int = 0  # epochs trained and validated
    step: int = 0  # steps done in the next
    trained: bool = False  # no epoch is left, by number or by early stopping
    best_val: float | None = None  # lowest validation MSE
    best_epoch: int = 0  # its epoch, from 1
    bad_epochs: int = 0  # epochs since then
    seconds: float = 0.0  # computing time so far, over all sittings
    history: list[dict[str, Any]] = field(default_factory=list)  # one row an epoch


class TrainState:
    """Progress and measurements of one training, kept in its folder with model and optimizer.

    Args:
        model, optimizer: what is trained; restored from the folder's last sound checkpoint.
        steps, epochs: steps of an epoch; epochs at most.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        steps: int,
        epochs: int,
    ) -> None:
        self.folder, self.model, self.optimizer = folder, model, optimizer
        self.steps, self.epochs = steps, epochs
        self.device = next(model.parameters()).device
        self.trace = torch.zeros(epochs * steps, len(TRACE), device=self.device)
        self.best: dict[str, Tensor] = {}  # the model's weights of the best epoch
        self.progress, self.begun = Progress(), time.monotonic()
        self.saved = self.begun
        if saved := load_state(folder):
            self._restore(saved)

    @property
    def position(self) -> int:
        """Training steps done in all."""
        return self.progress.epoch * self.steps + self.progress.step

    def add_step(self, measures: Tensor) -> None:
        """Note what a training step measured, on the device."""
        self.trace[self.position] = measures
        self.progress.step += 1

    def epoch_trace(self) -> Tensor:
        """Return the trace of the epoch under way, which waits for the device: [step, names]."""
        return self.trace[self.progress.epoch * self.steps : self.position].cpu()

    def end_epoch(self, lr: float, measures: dict[str, float]) -> dict[str, Any]:
        """Close the epoch under way: return its row of the history, with val_mse and others."""
        means, now = self.epoch_trace().double().mean(0).tolist(), self.progress
        now.epoch, now.step = now.epoch + 1, 0
        spent = now.seconds + time.monotonic() - self.begun - sum(r["seconds"] for r in now.history)
        row: dict[str, Any] = {"epoch": now.epoch, "lr": lr}
        row |= {f"train_{name}": mean for name, mean in zip(TRACE, means, strict=True)}
        row |= {**measures, "seconds": round(spent, 3)}
        now.history.append(row)
        return row

    def keep_best(self) -> None:
        """Keep a copy of the model's weights, in the place of an earlier one."""
        self.best = {name: value.clone() for name, value in self.model.state_dict().items()}

    def curves(self) -> dict[str, np.ndarray]:
        """Return the trace of the epochs that are closed, with the epoch of each step [n]."""
        rows = self.trace[: self.progress.epoch * self.steps].cpu().numpy()
        epoch = np.arange(1, len(rows) + 1) / self.steps
        return {"epoch": epoch, **{name: rows[:, i] for i, name in enumerate(TRACE)}}

    def save_if_due(self) -> None:
        """Write a checkpoint, unless the last one is younger than SAVE_SECONDS."""
        self.save(after=SAVE_SECONDS)

    def save(self, after: float = 0.0) -> None:
        """Write a checkpoint of everything, then drop all but the newest two.

        Nothing is written if the last one, or the start, is fewer seconds ago than `after`.
        """
        now = time.monotonic()
        self.progress.seconds, self.begun = self.progress.seconds + now - self.begun, now
        if now - self.saved < after:
            return
        self.saved = now
        cuda = self.device.type == "cuda"
        content = serialise(
            {
                "progress": asdict(self.progress),
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

    def _restore(self, saved: dict[str, Any]) -> None:
        known = saved["progress"]
        if "waited" in known:  # an earlier version's name
            known["bad_epochs"] = known.pop("waited")
        self.progress = Progress(**known)
        self.model.load_state_dict(saved["model"])
        self.best = {name: value.to(self.device) for name, value in saved["best"].items()}
        self.optimizer.load_state_dict(saved["optimizer"])
        self.trace.copy_(saved["trace"])
        torch.set_rng_state(saved["random"])
        if saved["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(saved["random_cuda"], self.device)
        print(f"continuing at epoch {self.progress.epoch + 1}, step {self.progress.step}")


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


def load_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read a run's weights without running any code that the file may hold.

    A UserError if they are missing, or not those of the recorded checksum.
    """
    try:
        content = path.read_bytes()
        if sha256_of(content) != sha256:
            raise UserError(f"{path}: damaged, its checksum does not hold; train with --force")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); train anew") from error
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise UserError(f"{path}: not a plain weights file; train anew with --force") from error
