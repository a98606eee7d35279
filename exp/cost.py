"""What training costs: counted on the model that is built, timed here, or read from a study.

Counts need neither data nor device: tensors of torch's meta device have shapes alone.
"""

import dataclasses
import functools
import multiprocessing
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from data.data_loader import Batch, column_counts, window_counts
from data.registry import DATASETS
from exp.config import Config, Options
from exp.exp_basic import _build_model
from exp.exp_informer import Exp_Informer
from models.layers import keep_freed_memory
from utils.environment import environment
from utils.files import UserError
from utils.timefeatures import time_features

# What takes a processor as long as so many operations of a matrix product: a number that is
# written, a call of one of torch's functions. Fitted to docs/bench and to d_model 64 to 512.
NUMBER, CALL = 100, 1e6
STEPS, SECONDS = 4, 15.0  # that are timed at most, after a step that warms up
T = TypeVar("T")
Place = tuple[str, Path, str]  # what names a data file: data set, folder, name


class Cost(NamedTuple):
    """What a model's step of one batch takes."""

    train: float  # operations
    evaluation: float  # operations of a forecast without gradients
    weights: int  # bytes
    memory: int  # bytes at the peak of training, with gradients and Adam's moments


class Tally(TorchDispatchMode):
    """Counts calls, the numbers they write, and the bytes that live at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.numbers = self.live = self.peak = 0
        self.seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls += 1
        for tensor in (leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)):
            storage = tensor.untyped_storage()
            if storage not in self.seen:
                self.seen.add(storage)
                self.numbers += tensor.numel()
                self._change(storage.nbytes())
                weakref.finalize(storage, self._change, -storage.nbytes())
        return result

    def _change(self, size: int) -> None:
        self.live += size
        self.peak = max(self.peak, self.live)


def stand_in(config: Config, columns: int, device: str | torch.device = "cpu") -> Any:
    """Give data of a setting's shapes, random and all of one date, for a model and its batches."""
    date = time_features(pd.DatetimeIndex(["2020-01-01"]), config.freq, config.embed)
    marks = torch.from_numpy(date).to(device, torch.float if date.dtype.kind == "f" else None)

    def batch(index: torch.Tensor) -> Batch:
        size, seq_len, decoded = len(index), config.seq_len, config.label_len + config.pred_len
        x, y = (torch.randn(size, n, columns, device=device) for n in (seq_len, decoded))
        return Batch(x, marks.expand(size, seq_len, -1), y, marks.expand(size, decoded, -1))

    return SimpleNamespace(
        x_width=columns,
        out_width=columns if config.features == "M" else 1,
        train=SimpleNamespace(batch=batch),
        to=functools.partial(stand_in, config, columns),
    )


class Uncomputed(Exp_Informer):
    """The experiment on the meta device, where nothing is computed."""

    def __init__(self, config: Config, columns: int) -> None:
        self.config, self.device = config, torch.device("meta")
        self.data = stand_in(config, columns, self.device)
        with self.device:
            self.model = _build_model(config, self.data)

    def operations(self, windows: int, train: bool) -> tuple[float, int]:
        """Count the operations of one batch, and the bytes at its peak without the weights."""
        self.model.train(train)
        batch = self.data.train.batch(range(windows))
        with torch.set_grad_enabled(train), Tally() as tally, FlopCounterMode(display=False) as f:
            loss, *_ = self.loss(batch)
            if train:
                loss.backward()
        return f.get_total_flops() + NUMBER * tally.numbers + CALL * tally.calls, tally.peak


@functools.cache
def count(config: Config, columns: int) -> Cost:
    """Count what a setting's steps take."""
    exp = Uncomputed(config, columns)
    evaluation, _ = exp.operations(config.eval_batch_size, train=False)
    train, peak = exp.operations(config.batch_size, train=True)
    weights = sum(value.nbytes for value in exp.model.state_dict().values())
    moments = 2 * sum(p.nbytes for p in exp.model.parameters())
    return Cost(train, evaluation, weights, weights + moments + peak)


def cost_of(config: Config, place: Place) -> Cost:
    """Count what the steps of a run take; `place` names its data: set, folder, file."""
    columns, _ = column_counts(*place, config.features, config.cols)
    return count(dataclasses.replace(config, lip_coef=0.0, seed=0), columns)


def run_operations(config: Config, place: Place, epochs: int, tests: int = 1) -> float:
    """Count the operations of a run of some epochs, which forecasts the test windows `tests` times.

    The windows are those of its data.
    """
    cost, (train, val, test) = (
        cost_of(config, place),
        window_counts(*place, config.seq_len, config.pred_len),
    )
    steps, forecasts = train // config.batch_size, epochs * val + tests * test
    return epochs * steps * cost.train + forecasts / config.eval_batch_size * cost.evaluation


def step_seconds(exp: Exp_Informer) -> float:
    """Time training steps without a change of weights: the fastest of several.

    On one thread that is processor time, which other work on the machine does not lengthen. A
    UserError if the loss is not finite.
    """
    alone = exp.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    index, taken, begun = torch.arange(exp.config.batch_size, device=exp.device), [], time.time()
    while len(taken) < 2 or (len(taken) <= STEPS and time.time() - begun < SECONDS):
        start = clock()
        loss, *_ = exp.loss(exp.data.train.batch(index))
        loss.backward()
        if not bool(loss.isfinite()):  # waits for the device
            raise UserError(f"the first loss is {loss.item():g}; check data and --lam")
        taken.append(clock() - start)
        exp.model.zero_grad()
    return min(taken[1:])


def timed_pace(config: Config, place: Place, options: Options) -> float:
    """Time a run's step on the device that its options name: seconds an operation."""
    keep_freed_memory()  # as in a run
    columns, _ = column_counts(*place, config.features, config.cols)
    exp = Exp_Informer(config, options, data=stand_in(config, columns))
    return step_seconds(exp) / cost_of(config, place).train


def recorded_paces(frame: pd.DataFrame, threads: int, amp: str) -> list[float]:
    """Return the seconds an operation of a study's runs on this kind of processor.

    They had as many threads, and the same precision.
    """
    processor = environment(torch.device("cpu"))["processor"]
    like = {"status": "finished", "device": "cpu", "processor": processor, "threads": threads}
    for name, value in {**like, "amp": amp}.items():
        frame = frame.loc[frame[name] == value]
    paces = []
    for row in frame.loc[frame["data"].isin(list(DATASETS))].to_dict("records"):
        known: dict[str, Any] = {  # as the types that they had before they were text
            f.name: type(f.default)(row[f.name])
            for f in dataclasses.fields(Config)
            if isinstance(f.default, str | int | float) and pd.notna(row.get(f.name))
        }
        operations = run_operations(Config(**known), (row["data"], Path(), ""), int(row["epochs"]))
        paces.append(row["wall_seconds"] / operations)
    return paces


def apart(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a process of its own, which leaves no memory and no CUDA context here."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()
