"""Exp_Informer: train, validate, test and predict over one batch routine."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.data_loader import Batch, Windows
from exp.baselines import baseline_scores
from exp.checkpoint import Progress
from exp.config import Config
from exp.exp_basic import Exp_Basic
from exp.flags import Options
from exp.forecasts import Prediction, Samples
from exp.record import Record
from exp.training import Training, continuity
from models.model import Forecast
from utils.interrupt import Stop
from utils.metrics import ErrorSums, score
from utils.progress import Meter


class Exp_Informer(Exp_Basic):
    """One run of Informer with loss = MSE + c * LipReg(embedded encoder input).

    Args:
        config: the settings that define the run.
        options: where and how to run.
        stop: tells the loops that a signal came.
    """

    def __init__(self, config: Config, options: Options, stop: Stop | None = None) -> None:
        super().__init__(config, options)
        self.stop = stop or Stop()
        self.board: Any = None  # a TensorBoard writer, where one was asked for

    def _process_one_batch(self, batch: Batch) -> tuple[Forecast, Tensor]:
        """Forecast one batch, and give the truth [B, pred_len, c_out] beside it."""
        config = self.config
        known = batch.y[:, : config.label_len]
        blank = torch.full_like(batch.y[:, config.label_len :], float(config.padding))
        x_dec = torch.cat([known, blank], dim=1)  # [B, label_len + pred_len, C]
        forecast = self.model(batch.x, batch.x_mark, x_dec, batch.y_mark)
        return forecast, batch.y[:, config.label_len :, -self.data.out_width :]

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the training loss MSE + c * LipReg of one batch, and the MSE alone."""
        forecast, true = self._process_one_batch(batch)
        mse = torch.nn.functional.mse_loss(forecast.pred, true)
        coefficient = self.config.lip_coef
        return (mse + coefficient * forecast.lip if coefficient else mse), mse

    def train(self, record: Record, checkpoints: Path) -> Progress:
        """Train from the last checkpoint on; the model ends with the best weights.

        Args:
            record: the run's folder.
            checkpoints: folder of its checkpoints.
        """
        return Training(self, record, checkpoints).run()

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

    def fixed_continuity(self) -> list[float]:
        """Return LipReg on both axes and L_f, in evaluation mode, of the first validation batch."""
        self.model.eval()
        count = min(self.config.eval_batch_size, len(self.data.val))
        batch = self.data.val.batch(torch.arange(count, device=self.device))
        with torch.inference_mode():
            h, _ = self.model.enc_embedding(batch.x, batch.x_mark)
            return continuity(h, self.config.lip_norm).tolist()

    def test(self) -> tuple[dict[str, Any], Samples, np.ndarray, np.ndarray | None]:
        """Forecast all test windows and score them beside the baselines.

        Returns:
            The scores as metrics.json holds them, the windows to be plotted, the MSE of each window
            on scaled data [windows], and all forecasts [windows, pred_len, c_out] in original units
            where --save_forecasts asks for them.
        """
        begun = time.monotonic()
        original = ErrorSums()
        by_window: list[Tensor] = []
        of_target: list[Tensor] = []
        kept: list[Tensor] = []

        def stream() -> Iterator[tuple[Tensor, Tensor]]:
            for pred, true in self._forecasts(self.data.test, "test"):
                original.add(self._unscale(pred), self._unscale(true))
                by_window.append(
                    (pred.double() - true.double()).square().mean((1, 2)).float().cpu()
                )
                of_target.append(torch.stack([pred[..., -1], true[..., -1]]).cpu())
                if self.options.save_forecasts:
                    kept.append(self._unscale(pred).cpu())
                yield pred, true

        scores = score(stream(), len(self.data.test))
        pred, true = torch.cat(of_target, dim=1)  # [windows, pred_len] each
        samples = Samples.choose(self.data, self.config, self.options.plot_windows, pred, true)
        body = {
            **scores.as_dict(),
            "by_step": scores.full.by_step(),
            "original_units": original.result(),
            "test_seconds": time.monotonic() - begun,
            "baselines": baseline_scores(self.data, self.config),
        }
        errors = torch.cat(by_window).numpy()
        return body, samples, errors, torch.cat(kept).numpy() if kept else None

    def predict(self) -> Prediction:
        """Forecast the pred_len steps beyond the end of the file, in original units."""
        batch, dates = self.data.future()
        self.model.eval()
        with torch.inference_mode(), self.own_draws():
            forecast, _ = self._process_one_batch(batch)
        names = self.data.columns[-self.data.out_width :]
        history = self._unscale(batch.x[..., -self.data.out_width :])
        past = self.data.dates[-self.config.seq_len :]
        return Prediction(
            names=names,
            past=past,
            history=history[0].cpu().numpy(),
            dates=dates,
            values=self._unscale(forecast.pred)[0].cpu().numpy(),
            attention=[layer[0].float().cpu().numpy() for layer in forecast.attns or []],
        )

    def _unscale(self, values: Tensor) -> Tensor:
        """Bring the output columns [..., c_out] back to original units."""
        width = self.data.out_width
        scaler = self.data.scaler
        mean = torch.as_tensor(scaler.mean[-width:], device=values.device, dtype=torch.float32)
        std = torch.as_tensor(scaler.std[-width:], device=values.device, dtype=torch.float32)
        return values * std + mean

    def watch(self, row: dict[str, Any], trace: dict[str, np.ndarray], steps: int) -> None:
        """Hand an epoch's numbers to TensorBoard, where it is asked for."""
        if self.board is None:
            return
        first = (row["epoch"] - 1) * steps
        for name in ("mse", "lip_time", "lip_feature", "l_f"):
            for step, value in enumerate(trace[name][first:], first + 1):
                self.board.add_scalar(f"step/{name}", value, step)
        for name, value in row.items():
            self.board.add_scalar(f"epoch/{name}", value, row["epoch"])
        self.board.flush()
