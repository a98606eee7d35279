"""Exp_Informer: train, validate, test and predict, with loss = MSE + c * LipReg."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.data_loader import Batch, Windows
from exp.checkpoint import TRACE, TrainState
from exp.exp_basic import Exp_Basic, batch_order
from exp.record import Record, RunFailed
from models.lipreg import LipReg, lipschitz_constant
from models.model import Forecast
from utils.interrupt import Interrupted
from utils.metrics import ErrorSums, score
from utils.progress import Meter, duration

CHECK_EVERY = 25  # steps between looks at the losses, each of which waits for the device


class TestForecasts(NamedTuple):
    """The forecasts of all test windows, scaled, on the processor."""

    pred: Tensor  # [windows, pred_len, C]; the target alone [.., 1] unless all were asked for
    true: Tensor  # of the target [windows, pred_len]
    window_mse: Tensor  # mean over steps and output columns [windows]


class Exp_Informer(Exp_Basic):
    """One run of a forecasting model with loss = MSE + c * LipReg(embedded encoder input)."""

    writer: Any = None  # of TensorBoard, where it is asked for

    def _process_one_batch(self, batch: Batch) -> tuple[Forecast, Tensor]:
        """Forecast one batch, and give the truth [B, pred_len, c_out] beside it."""
        config = self.config
        known = batch.y[:, : config.label_len]
        blank = torch.full_like(batch.y[:, config.label_len :], float(config.padding))
        x_dec = torch.cat([known, blank], dim=1)  # [B, label_len + pred_len, C]
        forecast = self.model(batch.x, batch.x_mark, x_dec, batch.y_mark)
        return forecast, batch.y[:, config.label_len :, -self.data.out_width :]

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor, Forecast]:
        """Return the training loss MSE + c * LipReg of one batch, the MSE alone, the forecast."""
        forecast, true = self._process_one_batch(batch)
        mse = F.mse_loss(forecast.pred, true)
        c = self.config.lip_coef  # -lambda (Eq. 7) or +lambda (Eq. 6)
        loss = mse + c * forecast.lip if c else mse
        return loss, mse, forecast

    def train_step(self, index: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        """Do one step on the windows of the given numbers [B].

        Returns what TRACE names, on the device: MSE, LipReg along time and features, L_f.
        """
        optimizer.zero_grad()  # before the forward pass: its peak is then without gradients
        loss, mse, forecast = self.loss(self.data.train.batch(index))
        loss.backward()
        optimizer.step()
        return torch.cat([mse.detach()[None], lip_metrics(forecast.embedded, self.config.lip_norm)])

    def train(self, record: Record) -> TrainState:
        """Train from the last checkpoint on; the model ends with the best weights.

        Raises:
            Interrupted: a signal came; the state is saved.
            RunFailed: the loss stopped being finite.
        """
        config, windows = self.config, len(self.data.train)
        steps, epochs = windows // config.batch_size, config.train_epochs
        optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        state = TrainState(record.folder, self.model, optimizer, steps=steps, epochs=epochs)
        now = state.progress
        if now.history:  # the end may have come between checkpoint and record
            record.write_history(now.history, state.curves())
        try:
            while not now.trained:
                rate = learning_rate(config.learning_rate, config.lradj, now.epoch + 1)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                order = batch_order(windows, config.batch_size, config.seed, now.epoch)
                self.model.train()
                meter = Meter(f"epoch {now.epoch + 1}/{epochs}", steps, now.step)
                for index in order.to(self.device)[now.step :]:
                    self.stop.check()
                    state.add_step(self.train_step(index, optimizer))
                    note = ""
                    if now.step % CHECK_EVERY == 0:
                        note = self._check_finite(state)
                        state.save_if_due()
                    meter.step(note)
                meter.close()
                self._check_finite(state)
                measures = self.vali()
                if not np.isfinite(val_mse := measures["val_mse"]):
                    raise RunFailed(f"the validation MSE of epoch {now.epoch + 1} is {val_mse}")
                row = state.end_epoch(rate, measures)
                if now.best_val is None or val_mse <= now.best_val:
                    now.best_val, now.best_epoch, now.bad_epochs = val_mse, now.epoch, 0
                    state.keep_best()
                else:
                    now.bad_epochs += 1
                now.trained = now.bad_epochs >= config.patience or now.epoch == epochs
                state.save_if_due()
                record.write_history(now.history, state.curves())
                self._print_epoch(row, state)
        except Interrupted:
            self._check_finite(state)
            state.save()
            raise
        self.model.load_state_dict(state.best)
        return state

    def _check_finite(self, state: TrainState) -> str:
        """Return the last step's measures as text; RunFailed if one of this epoch is not finite."""
        rows, config = state.epoch_trace(), self.config
        before = state.progress.epoch * state.steps
        bad = rows.isfinite().all(1).logical_not().nonzero().flatten().tolist()
        step = bad[0] if bad else len(rows) - 1
        text = _text(rows[step].tolist()) if len(rows) else ""
        if bad:
            raise RunFailed(
                f"the loss stopped being finite at step {before + step + 1} "
                f"({text}), c = {config.lip_coef:g}; try a lower --learning_rate "
                f"(now {config.learning_rate:g}) or a smaller --lam"
            )
        return text

    def _print_epoch(self, row: dict[str, Any], state: TrainState) -> None:
        """Print an epoch's row, and hand it to TensorBoard where that is asked for."""
        now = state.progress
        means = _text([row[f"train_{name}"] for name in TRACE])
        left = (state.epochs - now.epoch) * now.seconds / now.epoch
        print(
            f"epoch {now.epoch}/{state.epochs}: train {means}, val MSE {row['val_mse']:.4f}"
            f"{' *' if now.bad_epochs == 0 else ''}, lr {row['lr']:.3g}, "
            f"{duration(row['seconds'])}, run: at most {duration(left)} left"
        )
        if self.writer:
            for step in range(state.position - state.steps, state.position):
                for name, value in zip(TRACE, state.trace[step], strict=True):
                    self.writer.add_scalar(f"step/{name}", value, step + 1)
            for name, value in row.items():
                self.writer.add_scalar(f"epoch/{name}", value, now.epoch)
            self.writer.flush()

    def _forecasts(self, windows: Windows, label: str) -> Iterator[tuple[Forecast, Tensor]]:
        """Forecast all windows in order, in evaluation mode, with draws of this pass's own."""
        self.model.eval()
        batches = torch.arange(len(windows), device=self.device).split(self.config.eval_batch_size)
        meter = Meter(label, len(batches))
        with torch.inference_mode(), self.fixed_eval_rng():
            for index in batches:
                self.stop.check()
                yield self._process_one_batch(windows.batch(index))
                meter.step()
        meter.close()

    def vali(self) -> dict[str, float]:
        """Return the MSE over all validation windows, and over the test windows if asked for.

        Beside it LipReg, L_f and the largest embedded value of the first, fixed batch.
        """
        sums, tested, measures = ErrorSums(), ErrorSums(), {}
        for forecast, true in self._forecasts(self.data.val, "validation"):
            if not measures:
                values = lip_metrics(forecast.embedded, self.config.lip_norm).tolist()
                measures = {f"eval_{name}": x for name, x in zip(TRACE[1:], values, strict=True)}
                measures["eval_max"] = float(forecast.embedded.max())
            sums.add(forecast.pred, true)
        if self.options.test_each_epoch:  # it is recorded, and chooses nothing
            for forecast, true in self._forecasts(self.data.test, "test"):
                tested.add(forecast.pred, true)
            if np.isfinite(tested.mse):
                measures["test_mse"] = tested.mse
        return {**measures, "val_mse": sums.mse}

    def test(self, all_columns: bool = False) -> tuple[dict[str, Any], TestForecasts]:
        """Forecast all test windows: their scores, for metrics.json, and the forecasts.

        Of the forecasts the target is kept, or with `all_columns` every output column.
        """
        begun, data = time.monotonic(), self.data
        original = ErrorSums(*data.scaler.last(data.out_width, self.device))
        first, kept = 0 if all_columns else data.out_width - 1, []

        def stream() -> Iterator[tuple[Tensor, Tensor]]:
            for (pred, *_), true in self._forecasts(data.test, "test"):
                original.add(pred, true)
                error = (pred.double() - true.double()).square().mean((1, 2)).float()
                # copies, so that no whole batch stays in memory
                parts = (pred[..., first:], true[..., -1], error)
                kept.append([part.to("cpu", copy=True) for part in parts])
                yield pred, true

        scores = score(stream(), len(data.test))
        if not np.isfinite(scores.full.mse):
            raise RunFailed(f"the test MSE is {scores.full.mse}; look for extreme test values")
        metrics = {
            **scores.as_dict(),
            "by_step": scores.full.by_step(),
            "by_column": scores.full.by_column(),
            "original_units": original.result(),
            "test_seconds": time.monotonic() - begun,
        }
        return metrics, TestForecasts(*map(torch.cat, zip(*kept, strict=True)))

    def predict(self) -> tuple[Batch, Forecast]:
        """Forecast the pred_len steps beyond the end of the file, scaled: input and forecast."""
        batch = self.data.future()
        self.model.eval()
        with torch.inference_mode(), self.fixed_eval_rng():
            forecast, _ = self._process_one_batch(batch)
        return batch, forecast


def _text(values: Sequence[float]) -> str:
    """Write what TRACE measures."""
    mse, lip_time, lip_feature, l_f = values
    lips = f"LipReg time {lip_time:.3g}, feature {lip_feature:.3g}"
    return f"MSE {mse:.4g}, {lips}, L_f {l_f:.3g}"


def learning_rate(initial: float, schedule: str, epoch: int) -> float:
    """Return an epoch's rate: type1 halves it each epoch from the third on; type2 is a table."""
    if schedule == "type1":
        return initial * 0.5 ** max(0, epoch - 2)
    table = {2: 5e-5, 4: 1e-5, 6: 5e-6, 8: 1e-6, 10: 5e-7, 15: 1e-7, 20: 5e-8}
    passed = [rate for after, rate in table.items() if epoch > after]
    return passed[-1] if passed else initial


@torch.no_grad()
def lip_metrics(h: Tensor, norm: str) -> Tensor:
    """Return LipReg along time, LipReg along features and L_f of an embedding [B, L, D]: [3]."""
    h = h.float()
    lips = [LipReg(h, transpose=features, normalize=norm) for features in (False, True)]
    return torch.stack([*lips, lipschitz_constant(h, norm)])
