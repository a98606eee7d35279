"""A sweep's runs: settings times coefficients times seeds, each identity once."""

import dataclasses
import functools
import itertools
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch

from data.data_loader import column_counts, data_sha256, window_counts
from exp.config import Config, Options, parse, setting_hash, signed_coefficient
from exp.exp_basic import _build_model, load, pick_device, set_precision
from exp.record import Record, find_record
from models.layers import keep_freed_memory
from utils.files import UserError
from utils.timefeatures import time_features

NOT_IN_A_SWEEP = {"--lam", "--lip_sign", "--seed", "--itr"}  # a sweep sets them itself


@dataclass(frozen=True)
class Run:
    """One run of a sweep."""

    config: Config
    options: Options
    flags_of_setting: tuple[str, ...]  # without coefficient and seed

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

    @functools.cached_property
    def setting(self) -> str:
        """The hash that all runs have which differ in seed and regularizer only."""
        return setting_hash(self.record.identity)

    @property
    def log(self) -> Path:
        """Where what the run prints goes."""
        return self.options.results / "logs" / f"{self.name}.log"

    @property
    def flags(self) -> tuple[str, ...]:
        """The command line of main_informer.py for this run alone."""
        c, seed = self.config.lip_coef, str(self.config.seed)
        sign = ("--lam", repr(abs(c)), "--lip_sign", "plus" if c > 0 else "minus")
        return (*self.flags_of_setting, *sign, "--seed", seed, "--itr", "1", "--wait")

    @property
    def steps(self) -> float:
        """Its length in training steps if it does not stop early; a forecast is a third of one."""
        config = self.config
        train, val, test = window_counts(*self.place, config.seq_len, config.pred_len)
        tests = 1 + config.train_epochs * self.options.test_each_epoch
        forecasts = (config.train_epochs * val + tests * test) / config.batch_size
        return config.train_epochs * (train // config.batch_size) + forecasts / 3


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
            raise UserError(f"{min(wrong)}: not in a sweep; use --lams, --signs, --seeds")
        config, options = parse(list(setting))
        if config.data == "custom":
            load(config, options)
        for seed, c in itertools.product(seeds, coefficients):
            one = dataclasses.replace(config, lip_coef=c, seed=seed)
            run = Run(one, options, tuple(setting))
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
    pairs = sorted({(run.setting, run.config.seed) for run in runs})
    mine = pairs[int(match[1]) - 1 :: int(match[2])]
    return [run for run in runs if (run.setting, run.config.seed) in mine]


def step_seconds(run: Run, threads: int) -> float:
    """Time a run's training step on random numbers: the faster of two, after a first."""
    config, device = run.config, pick_device(run.options)
    torch.set_num_threads(threads)
    keep_freed_memory()  # as in a run
    set_precision(config.amp, device)
    width, out_width = column_counts(*run.place, config.features, config.cols)
    size: Any = SimpleNamespace(x_width=width, out_width=out_width)
    model = _build_model(config, size).to(device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    date = time_features(pd.DatetimeIndex(["2020-01-01"]), config.freq, config.embed)
    kind = torch.float32 if config.embed == "timeF" else torch.int64
    marks = torch.from_numpy(date).to(device, kind)
    inputs = []
    for length in (config.seq_len, config.label_len + config.pred_len):
        inputs.append(torch.randn(config.batch_size, length, width, device=device))
        inputs.append(marks.expand(config.batch_size, length, -1))
    clock = [time.perf_counter()]
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(*inputs).pred.square().mean()
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device
        clock.append(time.perf_counter())
    return min(clock[2] - clock[1], clock[3] - clock[2])
