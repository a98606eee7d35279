"""The training loop: epochs that can be left at any step and taken up again."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from data.data_loader import Batch
from exp.checkpoint import Progress, load_state, remove_states, save_state
from exp.record import Record
from models.lipreg import LipReg, lipschitz_constant
from utils.interrupt import Interrupted
from utils.progress import Meter, duration

if TYPE_CHECKING:
    from exp.exp_informer import Exp_Informer

TRACE = ("mse", "lip_time", "lip_feature", "l_f")
CHECK_EVERY = 25  # steps between looks at the trace, each of which waits for the device


class RunFailed(Exception):  # noqa: N818 - the run failed, not the program
    """The loss stopped being finite."""


def learning_rate(initial: float, schedule: str, epoch: int) -> float:
    """Return the rate of an epoch.

    Args:
        initial: Adam's initial rate.
        schedule: type1 halves it each epoch from the third on; type2 is a table of rates.
        epoch: counted from 1.
    """
    if schedule == "type1":
        return initial * 0.5 ** max(0, epoch - 2)
    table = {2: 5e-5, 4: 1e-5, 6: 5e-6, 8: 1e-6, 10: 5e-7, 15: 1e-7, 20: 5e-8}
    passed = [rate for after, rate in table.items() if epoch > after]
    return passed[-1] if passed else initial


def batch_order(windows: int, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Return an epoch's shuffled windows, the incomplete last batch dropped: [steps, batch_size].

    A function of seed and epoch alone: it needs no state to be resumed, and runs that differ in
    nothing but the regularizer see the same batches.
    """
    words = np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint32)
    generator = torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))
    steps = windows // batch_size
    return torch.randperm(windows, generator=generator)[: steps * batch_size].view(steps, -1)


def continuity(h: Tensor, norm: str) -> Tensor:
    """Return LipReg along time, LipReg along features and L_f of an embedding: [3].

    Args:
        h: embedded input [B, L, D].
        norm: normalisation of all three.
    """
    fp32 = h.detach().float()
    return torch.stack(
        [
            LipReg(fp32, transpose=False, normalize=norm),
            LipReg(fp32, transpose=True, normalize=norm),
            lipschitz_constant(fp32, norm),
        ]
    )


class Training:
    """One run's training, from its last checkpoint on.

    Args:
        exp: the experiment, whose model is trained in place.
        record: the run's folder.
        checkpoints: folder of the checkpoints.
    """

    def __init__(self, exp: "Exp_Informer", record: Record, checkpoints: Path) -> None:
        self.exp, self.record, self.checkpoints = exp, record, checkpoints
        config = exp.config
        self.steps = len(exp.data.train) // config.batch_size
        self.optimizer = torch.optim.Adam(
            exp.model.parameters(), lr=config.learning_rate, fused=True
        )
        rows = config.train_epochs * self.steps
        self.trace = torch.zeros(rows, len(TRACE), device=exp.device)
        self.checked = 0
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.embedded = torch.zeros(len(TRACE) - 1, device=exp.device)
        exp.model.enc_embedding.register_forward_hook(self._probe)
        self._restore()

    def _probe(self, module: torch.nn.Module, _: Any, output: tuple[Tensor, Tensor]) -> None:
        """Measure the embedding of each training forward pass (a forward hook)."""
        if module.training:
            with torch.no_grad():
                self.embedded = continuity(output[0], self.exp.config.lip_norm)

    def run(self) -> Progress:
        """Train until no epoch is left, and leave the best weights in the model.

        Raises:
            Interrupted: a signal came; the state is saved.
            RunFailed: the loss stopped being finite; no checkpoint is left.
        """
        begun = time.monotonic()
        try:
            while not self.progress.trained:
                self._epoch()
                self._close_epoch(time.monotonic() - begun)
                begun = time.monotonic()
        except Interrupted:
            self._check_finite()
            self._save(time.monotonic() - begun)
            raise
        self.exp.model.load_state_dict(self.best)
        return self.progress

    def _epoch(self) -> None:
        """Do the steps that are left of the epoch under way."""
        config, progress, model = self.exp.config, self.progress, self.exp.model
        rate = learning_rate(config.learning_rate, config.lradj, progress.epoch + 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        windows = self.exp.data.train
        order = batch_order(len(windows), config.batch_size, config.seed, progress.epoch)
        order = order.to(self.exp.device)
        model.train()
        label = f"epoch {progress.epoch + 1}/{config.train_epochs}"
        meter = Meter(label, self.steps, progress.step)
        for index in order[progress.step :]:
            self.exp.stop.check()
            self.step(windows.batch(index))
            last = self._check_finite() if progress.step % CHECK_EVERY == 0 else None
            meter.step(_numbers(last) if last else "")
        meter.close()
        self._check_finite()

    def step(self, batch: Batch) -> None:
        """Do one training step and note it in the trace."""
        self.optimizer.zero_grad()  # before the forward pass: its peak is then without gradients
        loss, mse = self.exp.loss(batch)
        loss.backward()
        self.optimizer.step()
        progress = self.progress
        row = progress.epoch * self.steps + progress.step
        self.trace[row] = torch.cat([mse.detach()[None], self.embedded])
        progress.step += 1

    def _check_finite(self) -> list[float] | None:
        """Look at the trace's new rows; return the last one.

        Raises:
            RunFailed: one of them is not finite. The run is recorded as failed.
        """
        upto = self.progress.epoch * self.steps + self.progress.step
        rows = self.trace[self.checked : upto].cpu()
        if not len(rows):
            return None
        config = self.exp.config
        lip = rows[:, TRACE.index(f"lip_{config.lip_axis}")]
        loss = rows[:, 0] + (config.lip_coef * lip if config.lip_coef else 0.0)
        bad = (~(torch.isfinite(rows).all(1) & torch.isfinite(loss))).nonzero()
        if len(bad):
            first = int(bad[0])
            self._fail(f"at step {self.checked + first + 1} ({_numbers(rows[first].tolist())})")
        self.checked = upto
        return rows[-1].tolist()

    def _fail(self, where: str) -> None:
        config = self.exp.config
        error = (
            f"the loss stopped being finite {where}, c = {config.lip_coef:g}; "
            f"try a lower --learning_rate (now {config.learning_rate:g}) or a smaller --lam"
        )
        remove_states(self.checkpoints)
        self.record.finish("failed", {"error": error})
        raise RunFailed(f"{self.record.folder.name}: {error}")

    def _close_epoch(self, seconds: float) -> None:
        """Validate, keep the best weights, checkpoint, then record the epoch."""
        progress, config = self.progress, self.exp.config
        begun = time.monotonic()
        val_mse = self.exp.vali()
        if not np.isfinite(val_mse):
            self._fail(f"in the validation of epoch {progress.epoch + 1} (MSE {val_mse})")
        epoch_seconds = seconds + time.monotonic() - begun
        first = progress.epoch * self.steps
        means = self.trace[first : first + self.steps].double().mean(0).tolist()
        fixed = self.exp.fixed_continuity()
        row = {
            "epoch": progress.epoch + 1,
            "lr": self.optimizer.param_groups[0]["lr"],
            **{f"train_{name}": mean for name, mean in zip(TRACE, means, strict=True)},
            **{f"eval_{name}": value for name, value in zip(TRACE[1:], fixed, strict=True)},
            "val_mse": val_mse,
            "seconds": round(epoch_seconds, 3),
        }
        progress.history.append(row)
        if progress.best_val is None or val_mse <= progress.best_val:
            progress.best_val, progress.best_epoch, progress.waited = val_mse, row["epoch"], 0
            state = self.exp.model.state_dict()
            self.best = {name: value.clone() for name, value in state.items()}
        else:
            progress.waited += 1
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.trained = (
            progress.waited >= config.patience or progress.epoch == config.train_epochs
        )
        self._save(epoch_seconds)
        self._record_epoch(row)

    def _record_epoch(self, row: dict[str, Any]) -> None:
        progress, config = self.progress, self.exp.config
        self.record.write_history(progress.history, self._trace_arrays())
        self.exp.watch(row, self._trace_arrays(), self.steps)
        left = (config.train_epochs - progress.epoch) * progress.seconds / progress.epoch
        axis = config.lip_axis
        print(
            f"epoch {row['epoch']}/{config.train_epochs}: train MSE {row['train_mse']:.4f}, "
            f"LipReg ({axis}) {row[f'train_lip_{axis}']:.4g}, L_f {row['train_l_f']:.4g}, "
            f"val MSE {row['val_mse']:.4f}{' *' if progress.waited == 0 else ''}, "
            f"lr {row['lr']:.3g}, {duration(row['seconds'])}, at most {duration(left)} left",
            flush=True,
        )

    def _trace_arrays(self) -> dict[str, np.ndarray]:
        rows = self.trace[: self.progress.epoch * self.steps].cpu().numpy()
        epoch = np.arange(1, len(rows) + 1) / self.steps
        return {"epoch": epoch, **{name: rows[:, i] for i, name in enumerate(TRACE)}}

    def _save(self, seconds: float) -> None:
        progress = self.progress
        progress.seconds += seconds
        cuda = self.exp.device.type == "cuda"
        state = {
            "progress": asdict(progress),
            "model": self.exp.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "trace": self.trace,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.exp.device) if cuda else None,
        }
        save_state(self.checkpoints, progress.epoch * self.steps + progress.step, state)

    def _restore(self) -> None:
        """Go on from the newest sound checkpoint, if there is one."""
        state = load_state(self.checkpoints)
        if state is None:
            return
        self.progress = Progress(**state["progress"])
        self.exp.model.load_state_dict(state["model"])
        self.best = {name: value.to(self.exp.device) for name, value in state["best"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.trace.copy_(state["trace"])
        self.checked = self.progress.epoch * self.steps + self.progress.step
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and self.exp.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.exp.device)
        print(f"continuing at epoch {self.progress.epoch + 1}, step {self.progress.step}")
        if self.progress.history:  # the end may have come between checkpoint and record
            self.record.write_history(self.progress.history, self._trace_arrays())


def _numbers(row: list[float]) -> str:
    mse, lip_time, lip_feature, l_f = row
    return f"MSE {mse:.4g}, LipReg time {lip_time:.3g}, feature {lip_feature:.3g}, L_f {l_f:.3g}"
