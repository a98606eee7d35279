"""Exp_Informer: train, validate, test and predict, with loss = MSE + c * LipReg."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from data.data_loader import Batch, ForecastData, Windows
from exp.baselines import baseline_scores, baselines
from exp.config import Config
from exp.exp_basic import Exp_Basic, batch_order
from exp.flags import Options
from exp.record import Record, RunFailed
from exp.samples import Prediction, Samples, long_frame
from exp.state import TRACE, TrainState
from models.lipreg import LipReg, lipschitz_constant
from models.model import Forecast
from utils.interrupt import Interrupted, Stop
from utils.metrics import ErrorSums, score
from utils.progress import Meter, duration

CHECK_EVERY = 25  # steps between looks at the losses, each of which waits for the device


class Tested(NamedTuple):
    """What a test gives."""

    scores: dict[str, Any]  # as metrics.json holds them
    samples: Samples
    window_mse: np.ndarray  # on scaled data [windows]
    forecasts: pd.DataFrame | None  # where --save_forecasts asks for them


class Exp_Informer(Exp_Basic):
    """One run of a forecasting model with loss = MSE + c * LipReg(embedded encoder input)."""

    def __init__(
        self,
        config: Config,
        options: Options,
        stop: Stop | None = None,
        data: ForecastData | None = None,
    ) -> None:
        super().__init__(config, options, data)
        self.stop = stop or Stop()
        self.writer: Any = None  # of TensorBoard, where it is asked for

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

    def train_step(self, batch: Batch, state: TrainState) -> None:
        """Do one step of the optimizer, and note its losses in the trace."""
        state.optimizer.zero_grad()  # before the forward pass: its peak is then without gradients
        loss, mse, forecast = self.loss(batch)
        loss.backward()
        state.optimizer.step()
        state.add_step(mse, continuity(forecast.embedded, self.config.lip_norm))

    def train(self, record: Record, checkpoints: Path) -> TrainState:
        """Train from the last checkpoint on; the model ends with the best weights.

        Raises:
            Interrupted: a signal came; the state is saved.
            RunFailed: the loss stopped being finite.
        """
        config, windows = self.config, self.data.train
        steps = len(windows) // config.batch_size
        state = TrainState(
            self.model, config.learning_rate, steps, config.train_epochs, checkpoints
        )
        if state.history:  # the end may have come between checkpoint and record
            record.write_history(state.history, state.curves())
        try:
            while not state.trained:
                rate = learning_rate(config.learning_rate, config.lradj, state.epoch + 1)
                for group in state.optimizer.param_groups:
                    group["lr"] = rate
                order = batch_order(len(windows), config.batch_size, config.seed, state.epoch)
                self.model.train()
                meter = Meter(f"epoch {state.epoch + 1}/{config.train_epochs}", steps, state.step)
                for index in order.to(self.device)[state.step :]:
                    self.stop.check()
                    self.train_step(windows.batch(index), state)
                    looks = state.step % CHECK_EVERY == 0
                    meter.step(self._check_finite(state) if looks else "")
                meter.close()
                self._check_finite(state)
                val_mse = self.vali()
                if not np.isfinite(val_mse):
                    raise RunFailed(f"the validation MSE of epoch {state.epoch + 1} is {val_mse}")
                measures = {**self.eval_continuity(), "val_mse": val_mse}
                row = state.end_epoch(measures, config.patience)
                record.write_history(state.history, state.curves())
                self._report_epoch(row, state)
        except Interrupted:
            self._check_finite(state)
            state.save()
            raise
        self.model.load_state_dict(state.best)
        return state

    def _check_finite(self, state: TrainState) -> str:
        """Write the trace's last row out; RunFailed if a row since the last look is not finite."""
        first, rows, config = state.checked, state.unchecked(), self.config
        lip = rows[:, TRACE.index(f"lip_{config.lip_axis}")]
        loss = rows[:, 0] + (config.lip_coef * lip if config.lip_coef else 0.0)
        bad = (~(torch.isfinite(rows).all(1) & torch.isfinite(loss))).nonzero()
        if len(bad):
            step = int(bad[0])
            raise RunFailed(
                f"the loss stopped being finite at step {first + step + 1} "
                f"({_numbers(rows[step].tolist())}), c = {config.lip_coef:g}; "
                f"try a lower --learning_rate (now {config.learning_rate:g}) or a smaller --lam"
            )
        return _numbers(rows[-1].tolist()) if len(rows) else ""

    def _report_epoch(self, row: dict[str, Any], state: TrainState) -> None:
        """Print an epoch's row, and hand it to TensorBoard where that is asked for."""
        axis, left = self.config.lip_axis, state.epochs - state.epoch
        print(
            f"epoch {row['epoch']}/{state.epochs}: train MSE {row['train_mse']:.4f}, "
            f"LipReg ({axis}) {row[f'train_lip_{axis}']:.4g}, L_f {row['train_l_f']:.4g}, "
            f"val MSE {row['val_mse']:.4f}{' *' if state.waited == 0 else ''}, "
            f"lr {row['lr']:.3g}, {duration(row['seconds'])}, "
            f"run: at most {duration(left * state.seconds / state.epoch)} left",
            flush=True,
        )
        if self.writer is None:
            return
        first = (row["epoch"] - 1) * state.steps
        for name, curve in state.curves().items():
            for step, value in enumerate(curve[first:] if name in TRACE else (), first + 1):
                self.writer.add_scalar(f"step/{name}", value, step)
        for name, value in row.items():
            self.writer.add_scalar(f"epoch/{name}", value, row["epoch"])
        self.writer.flush()

    def _forecasts(self, windows: Windows, label: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Forecast all windows in order, in evaluation mode, with draws of this pass's own."""
        self.model.eval()
        batches = torch.arange(len(windows), device=self.device).split(self.config.eval_batch_size)
        meter = Meter(label, len(batches))
        with torch.inference_mode(), self.own_draws():
            for index in batches:
                self.stop.check()
                forecast, true = self._process_one_batch(windows.batch(index))
                yield forecast.pred, true
                meter.step()
        meter.close()

    def vali(self) -> float:
        """Return the MSE over all validation windows, without the regularizer."""
        sums = ErrorSums()
        for pred, true in self._forecasts(self.data.val, "validation"):
            sums.add(pred, true)
        return sums.mse

    def eval_continuity(self) -> dict[str, float]:
        """Return LipReg on both axes and L_f of the first validation batch, without dropout."""
        self.model.eval()
        count = min(self.config.eval_batch_size, len(self.data.val))
        batch = self.data.val.batch(torch.arange(count, device=self.device))
        with torch.inference_mode():
            h, _ = self.model.enc_embedding(batch.x, batch.x_mark)
            values = continuity(h, self.config.lip_norm).tolist()
        return {f"eval_{name}": value for name, value in zip(TRACE[1:], values, strict=True)}

    def test(self) -> Tested:
        """Forecast all test windows and score them beside the baselines."""
        begun, options = time.monotonic(), self.options
        original = ErrorSums(*self.data.scaler.last(self.data.out_width, self.device))
        kept = 0 if options.save_forecasts else -1  # the target alone is plotted
        preds, trues, errors = [], [], []

        def stream() -> Iterator[tuple[Tensor, Tensor]]:
            for pred, true in self._forecasts(self.data.test, "test"):
                original.add(pred, true)
                squared = (pred.double() - true.double()).square()
                errors.append(squared.mean((1, 2)).float().cpu())
                preds.append(pred[..., kept:].cpu())
                trues.append(true[..., -1].cpu())
                yield pred, true

        scores = score(stream(), len(self.data.test))
        if not np.isfinite(scores.full.mse):
            raise RunFailed(f"the test MSE is {scores.full.mse}; look for extreme test values")
        pred, true = torch.cat(preds), torch.cat(trues)  # [windows, pred_len, C | 1], [windows, T]
        methods = baselines(self.data, self.config)
        body = {
            **scores.as_dict(),
            "by_step": scores.full.by_step(),
            "original_units": original.result(),
            "test_seconds": time.monotonic() - begun,
            "baselines": baseline_scores(self.data, self.config, methods),
        }
        ridge = methods["ridge"]
        assert ridge, "it always applies"
        wanted = options.plot_windows
        return Tested(
            body,
            Samples.choose(self.data, self.config, wanted, pred[..., -1], true, ridge=ridge),
            torch.cat(errors).numpy(),
            long_frame(self.data, self.config, pred) if options.save_forecasts else None,
        )

    def predict(self) -> Prediction:
        """Forecast the pred_len steps beyond the end of the file, in original units."""
        batch, dates = self.data.future()
        self.model.eval()
        with torch.inference_mode(), self.own_draws():
            forecast, _ = self._process_one_batch(batch)
        width, scaler = self.data.out_width, self.data.scaler
        return Prediction(
            names=self.data.columns[-width:],
            scaler=scaler,
            past=self.data.dates[-self.config.seq_len :],
            history=scaler.inverse(batch.x[0, :, -width:].double().cpu().numpy()),
            dates=dates,
            values=scaler.inverse(forecast.pred[0].double().cpu().numpy()),
            attention=[layer[0].float().cpu().numpy() for layer in forecast.attns or []],
        )


def learning_rate(initial: float, schedule: str, epoch: int) -> float:
    """Return the rate of an epoch, counted from 1.

    Schedule type1 halves the initial rate each epoch from the third on; type2 is a table.
    """
    if schedule == "type1":
        return initial * 0.5 ** max(0, epoch - 2)
    table = {2: 5e-5, 4: 1e-5, 6: 5e-6, 8: 1e-6, 10: 5e-7, 15: 1e-7, 20: 5e-8}
    passed = [rate for after, rate in table.items() if epoch > after]
    return passed[-1] if passed else initial


@torch.no_grad()
def continuity(h: Tensor, norm: str) -> Tensor:
    """Return LipReg along time, LipReg along features and L_f of an embedding [B, L, D]: [3]."""
    h = h.float()
    lips = [LipReg(h, transpose=features, normalize=norm) for features in (False, True)]
    return torch.stack([*lips, lipschitz_constant(h, norm)])


def _numbers(row: list[float]) -> str:
    return "MSE {:.4g}, LipReg time {:.3g}, feature {:.3g}, L_f {:.3g}".format(*row)
