"""Forecasts that a model has to beat, scored on the same windows."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from data.data_loader import ForecastData
from exp.config import Config
from utils.metrics import score

RIDGE_SAMPLES = 60_000  # rows of the fit at most; windows are strided evenly beyond it
Forecaster = Callable[[Tensor], Tensor]  # numbers of test windows to forecasts, scaled


NAMES = {
    "last": "last value",
    "day": "seasonal naive (24 h)",
    "week": "a week ago",
    "ridge": "ridge regression",
}


def baselines(data: ForecastData, config: Config) -> dict[str, Forecaster | None]:
    """Give last value, a day ago, a week ago, and ridge regression.

    A day and a week ago are None where they are not a whole number of equal steps, or one step (the
    last value), or would reach back before the file.
    """
    return {
        "last": lambda index: data.test.batch(index).x[:, -1:, -data.out_width :],
        "day": _ago(data, config, data.steps_in(pd.to_timedelta("1D"))),
        "week": _ago(data, config, data.steps_in(pd.to_timedelta("7D"))),
        "ridge": _ridge(data, config),
    }


def baseline_scores(
    data: ForecastData, config: Config, methods: dict[str, Forecaster | None] | None = None
) -> dict[str, Any]:
    """Score baselines on all test windows: all, truncated and by_step, as metrics.json has them."""
    methods = methods or baselines(data, config)
    windows = torch.arange(len(data.test), device=data.test.values.device)

    def stream(method: Forecaster) -> Iterator[tuple[Tensor, Tensor]]:
        for index in windows.split(config.eval_batch_size):
            true = data.test.batch(index).y[:, config.label_len :, -data.out_width :]
            yield method(index).expand_as(true), true

    scores: dict[str, Any] = dict.fromkeys(methods)
    for name, method in methods.items():
        if method:
            found = score(stream(method), len(windows))
            scores[name] = {**found.as_dict(), "by_step": found.full.by_step()}
    return scores


def _ago(data: ForecastData, config: Config, period: int | None) -> Forecaster | None:
    """Repeat the last period (in steps) before the forecast, which may begin before the window."""
    values, first = data.test.values, data.test.start + config.seq_len  # to forecast
    if not period or period == 1 or first < period:
        return None
    back = torch.arange(config.pred_len, device=values.device) % period - period
    return lambda index: values[first + index[:, None] + back][..., -data.out_width :]


def _ridge(data: ForecastData, config: Config) -> Forecaster:
    """Fit one linear map from a column's window to its future, shared by all output columns."""
    from sklearn.linear_model import Ridge  # noqa: PLC0415 - half of a short command's start

    width, train = data.out_width, data.train

    def columns(values: Tensor) -> np.ndarray:  # [B, L, C] to [B * width, L]
        return values[..., -width:].transpose(1, 2).flatten(0, 1).double().cpu().numpy()

    stride = max(1, -(-len(train) * width // RIDGE_SAMPLES))
    batch = train.batch(torch.arange(0, len(train), stride, device=train.values.device))
    model = Ridge(alpha=1.0).fit(columns(batch.x), columns(batch.y[:, config.label_len :]))

    def forecast(index: Tensor) -> Tensor:
        flat = np.asarray(model.predict(columns(data.test.batch(index).x)), np.float32)
        shaped = torch.from_numpy(flat).to(index.device)
        return shaped.reshape(len(index), width, -1).transpose(1, 2)  # [B, pred_len, C]

    return forecast
