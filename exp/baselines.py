"""Forecasts that a model has to beat, scored on the same windows."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from pandas.tseries.offsets import Tick
from torch import Tensor

from data.data_loader import ForecastData
from exp.config import Config
from utils.metrics import score

RIDGE_SAMPLES = 60_000  # rows of the fit at most; windows are strided evenly beyond it
Forecaster = Callable[[Tensor], Tensor]  # numbers of test windows to forecasts, scaled

NAMES = {
    "last": "last value",
    "day": "seasonal naive (24 h)",
    "week": "seasonal naive (7 d)",
    "ridge": "ridge regression",
}


def baselines(data: ForecastData, config: Config) -> dict[str, Forecaster | None]:
    """Give last value, a day ago, a week ago, and ridge regression.

    A day and a week ago are None where they are not a whole number of equal steps, or one step (the
    last value), or would reach back before the file.
    """
    return {
        "last": lambda index: data.test.batch(index).x[:, -1:, -data.out_width :],
        "day": _ago(data, config, pd.to_timedelta("1D")),
        "week": _ago(data, config, pd.to_timedelta("7D")),
        "ridge": _ridge(data, config),
    }


def baseline_scores(
    data: ForecastData, config: Config, methods: dict[str, Forecaster | None] | None = None
) -> dict[str, Any]:
    """Score baselines on all test windows: all, truncated and by_step, as metrics.json has them."""
    methods = methods or baselines(data, config)
    windows, scores = torch.arange(len(data.test), device=data.test.values.device), {}

    def forecast(method: Forecaster, index: Tensor) -> tuple[Tensor, Tensor]:
        true = data.test.batch(index).y[:, config.label_len :, -data.out_width :]
        return method(index).expand_as(true), true

    for name, method in methods.items():
        scores[name] = None
        if method:
            batches = (forecast(method, index) for index in windows.split(config.eval_batch_size))
            found = score(batches, len(windows))
            scores[name] = {**found.as_dict(), "by_step": found.full.by_step()}
    return scores


def _ago(data: ForecastData, config: Config, length: pd.Timedelta) -> Forecaster | None:
    """Repeat the last period before the forecast, which may begin before the window."""
    if not isinstance(data.offset, Tick):
        return None
    period, rest = divmod(length.value, pd.Timedelta(data.offset).value)
    values, first = data.test.values, data.test.start + config.seq_len  # to forecast
    if rest or period < 2 or first < period:
        return None
    back = torch.arange(config.pred_len, device=values.device) % period - period
    return lambda index: values[first + index[:, None] + back][..., -data.out_width :]


def _ridge(data: ForecastData, config: Config) -> Forecaster:
    """Fit one linear map from a column's window to its future, shared by all output columns."""
    width, train = data.out_width, data.train

    def columns(values: Tensor) -> Tensor:  # [B, L, C] to [B * width, L]
        return values[..., -width:].transpose(1, 2).flatten(0, 1).double()

    stride = max(1, -(-len(train) * width // RIDGE_SAMPLES))
    batch = train.batch(torch.arange(0, len(train), stride, device=train.values.device))
    x, y = columns(batch.x), columns(batch.y[:, config.label_len :])
    x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
    x = x - x_mean
    penalty = torch.eye(config.seq_len, dtype=x.dtype, device=x.device)  # 1, as scikit-learn has it
    weights = torch.linalg.solve(x.T @ x + penalty, x.T @ (y - y_mean))  # [seq_len, pred_len]

    def forecast(index: Tensor) -> Tensor:
        flat = (columns(data.test.batch(index).x) - x_mean) @ weights + y_mean
        return flat.float().unflatten(0, (len(index), width)).transpose(1, 2)  # [B, pred_len, C]

    return forecast
