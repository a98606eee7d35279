"""A sweep's runs: settings times coefficients times seeds, where each stands, what each takes."""

import dataclasses
import functools
import itertools
import re
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from data.data_loader import column_counts, data_sha256, window_counts
from exp.config import Config, Options, parse, setting_hash, signed_coefficient
from exp.exp_basic import _build_model, check_batch_size, load, pick_device, set_precision
from exp.record import Record, find_record
from models.layers import keep_freed_memory
from utils.files import UserError
from utils.timefeatures import time_features

# flags of main_informer.py that a sweep sets itself, or that fit one run alone
NOT_IN_A_SWEEP = {"--lam", "--lip_sign", "--seed", "--itr"}
# What takes a processor as long as so many operations of a matrix product: a number that is
# written, a call of one of torch's functions. Fitted to docs/bench and to d_model 64 to 512.
NUMBER, CALL = 100, 1e6


@dataclass(frozen=True)
class Run:
    """One run of a sweep."""

    config: Config
    options: Options
    setting: tuple[str, ...]  # flags, without coefficient and seed

    @property
    def place(self) -> tuple[str, Path, str]:
        """What names the data's file: data set, folder, name."""
        return self.config.data, self.options.root_path, self.options.data_path

    @functools.cached_property
    def record(self) -> Record:
        """The run's record, there or not."""
        sha256 = data_sha256(*self.place)
        return find_record(self.options.results, self.config, sha256, self.options.data_path)

    @property
    def name(self) -> str:
        """The run's folder, which holds the hash of its identity."""
        return self.record.folder.name

    @property
    def log(self) -> Path:
        """Where what the run prints goes."""
        return self.options.results / "logs" / f"{self.name}.log"

    @property
    def flags(self) -> tuple[str, ...]:
        """The command line of main_informer.py for this run alone."""
        c, seed = self.config.lip_coef, str(self.config.seed)
        sign = ("--lam", repr(abs(c)), "--lip_sign", "plus" if c > 0 else "minus")
        return (*self.setting, *sign, "--seed", seed, "--itr", "1", "--wait")

    @property
    def columns(self) -> int:
        """How many columns the model reads."""
        return column_counts(*self.place, self.config.features, self.config.cols)[0]

    def operations(self, epochs: int, **changes: int) -> float:
        """Count the operations of the run, or of another model's, if it ends after epochs."""
        config = dataclasses.replace(self.config, lip_coef=0.0, seed=0, **changes)
        train, val, test = window_counts(*self.place, config.seq_len, config.pred_len)
        tests = 1 + epochs * self.options.test_each_epoch
        forecasts = (epochs * val + tests * test) / config.batch_size
        steps = epochs * (train // config.batch_size) + forecasts / 3  # these have no gradients
        return steps * step_operations(config, self.columns)


def expand(
    settings: Iterable[Sequence[str]], lams: Iterable[float], signs: Sequence[str], seeds: list[int]
) -> list[Run]:
    """Turn settings, each the flags of a command line, into checked runs, each identity once.

    Registered data sets need no file for it. Runs that are to be compared follow each other.
    """
    coefficients = dict.fromkeys(signed_coefficient(lam, sign) for lam in lams for sign in signs)
    runs: dict[str, Run] = {}
    for setting in settings:
        if wrong := NOT_IN_A_SWEEP & {word.split("=")[0] for word in setting}:
            raise UserError(f"{min(wrong)}: not in a sweep; use --lams, --signs, --seeds, --plan")
        first = Run(*parse(list(setting)), tuple(setting))
        config = first.config
        if config.data == "custom":
            load(config, first.options)
        windows, *_ = window_counts(*first.place, config.seq_len, config.pred_len)
        check_batch_size(config.batch_size, config.data, windows)
        for seed, c in itertools.product(seeds, coefficients):
            one = dataclasses.replace(config, lip_coef=c, seed=seed)
            run = dataclasses.replace(first, config=one)
            runs.setdefault(run.name, run)
    return list(runs.values())


def shard_of(runs: Sequence[Run], shard: str) -> list[Run]:
    """Choose the runs of one shard, say 3/16, of the whole grid.

    Dealt by setting and seed, so that the runs of a pair stay on one machine, and in the order of
    their hashes: every shard finds the same deal, whatever is done meanwhile.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--shard {shard}: must be K/N with K from 1 to N, for instance 3/16")
    pairs = [(setting_hash(run.record.identity), run.config.seed) for run in runs]
    mine = sorted(set(pairs))[int(match[1]) - 1 :: int(match[2])]
    return [run for run, pair in zip(runs, pairs, strict=True) if pair in mine]


def state_of(run: Run, recorded: Container[str] = ()) -> tuple[str, dict[str, Any]]:
    """Read where a run stands: done, in the study, cut off, failed or new; and its metrics.

    With --force every run is new; one that owes the forecast of --do_predict is cut off.
    `recorded` names runs that ended in a study.
    """
    folder = run.record.folder
    if run.options.force:
        return "new", {}
    try:
        metrics = run.record.metrics()
    except UserError as error:
        return "failed", {"error": str(error)}
    if metrics is None:
        begun = "cut off" if (folder / "config.json").exists() else "new"
        return "in the study" if run.name in recorded else begun, {}
    owes = run.options.do_predict and not (folder / "prediction.csv").exists()
    status = "cut off" if owes else "done"
    return "failed" if metrics["status"] == "failed" else status, metrics


class Tally(TorchDispatchMode):
    """Weighs the calls of torch's functions, and the numbers that they write."""

    operations = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        written = [] if func.is_view else [x for x in tree_leaves(result) if torch.is_tensor(x)]
        self.operations += CALL + NUMBER * sum(tensor.numel() for tensor in written)
        return result


def random_step(
    config: Config, columns: int, device: str | torch.device
) -> Callable[[], torch.Tensor]:
    """Return a training step on random numbers, without a change of weights; it gives a loss."""
    size: Any = SimpleNamespace(x_width=columns, out_width=columns if config.features == "M" else 1)
    with torch.device(device):
        model = _build_model(config, size)
    date = time_features(pd.DatetimeIndex(["2020-01-01"]), config.freq, config.embed)
    marks = torch.from_numpy(date).to(device, torch.float if date.dtype.kind == "f" else None)

    def step() -> torch.Tensor:
        inputs = []
        for length in (config.seq_len, config.label_len + config.pred_len):
            values = torch.randn(config.batch_size, length, columns, device=device)
            inputs += [values, marks.expand(config.batch_size, length, -1)]
        loss = model(*inputs).pred.square().mean()
        loss.backward()
        return loss.detach()

    return step


@functools.cache
def step_operations(config: Config, columns: int) -> float:
    """Count a training step's operations on the meta device, whose tensors have no values."""
    step = random_step(config, columns, "meta")
    with Tally() as tally, FlopCounterMode(display=False) as flops:
        step()
    return flops.get_total_flops() + tally.operations


def fastest(step: Callable[[], object], device: torch.device) -> float:
    """Time a step that waits for the device: seconds of the fastest of three, after a first.

    On one thread that is processor time, which other work on the machine does not lengthen.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    times = [clock()]
    for _ in range(4):
        step()
        times.append(clock())
    return min(end - start for start, end in itertools.pairwise(times[1:]))


def timed_pace(run: Run, threads: int) -> float:
    """Time a run's training step here: seconds an operation."""
    config, device = run.config, pick_device(run.options)
    torch.set_num_threads(threads)
    keep_freed_memory()  # as in a run
    set_precision(config.amp, device)
    step = random_step(config, run.columns, device)
    return fastest(lambda: step().item(), device) / step_operations(config, run.columns)
