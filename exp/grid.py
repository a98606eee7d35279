"""A sweep's grid: settings, times signed coefficients, times seeds; where each run stands."""

import dataclasses
import functools
import itertools
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data.data_loader import data_sha256, window_counts
from exp import cost
from exp.config import Config, Options, parse, setting_hash, signed_coefficient
from exp.exp_basic import check_batch_size, load
from exp.record import Record, find_record
from exp.workers import Job
from utils.files import UserError

NOT_IN_A_SWEEP = {  # flags of main_informer.py that a sweep sets itself, or that fit one run alone
    "--lam": "use --lams",
    "--lip_sign": "use --signs",
    "--seed": "use --seeds",
    "--itr": "use --seeds",
    "--dry_run": "use --plan",
    "--test_only": "it tests one file",
    "--use_multi_gpu": "a sweep uses all GPUs that it sees (CUDA_VISIBLE_DEVICES)",
}
STATUSES = ("done", "in the study", "cut off", "failed", "new")


@dataclass(frozen=True)
class Run:
    """One run of a sweep."""

    config: Config
    options: Options
    argv: tuple[str, ...]  # the flags of its setting, without coefficient and seed

    @property
    def place(self) -> tuple[str, Path, str]:
        """What names the data's file: data set, folder, name."""
        return self.config.data, self.options.root_path, self.options.data_path

    @functools.cached_property
    def record(self) -> Record:
        """The run's record, there or not."""
        results, (_, _, file) = self.options.results, self.place
        return find_record(results, self.config, data_sha256(*self.place), file)

    @property
    def name(self) -> str:
        """The run's folder, which holds the hash of its identity."""
        return self.record.folder.name

    @property
    def job(self) -> Job:
        """The command line of main_informer.py for this run alone."""
        c, seed = self.config.lip_coef, str(self.config.seed)
        sign = ("--lam", repr(abs(c)), "--lip_sign", "plus" if c > 0 else "minus")
        flags = (*self.argv, *sign, "--seed", seed, "--itr", "1", "--wait")
        log = self.options.results / "logs" / f"{self.name}.log"
        return Job(self.name, flags, log, self.options.threads)

    def operations(self, epochs: int, **other: int) -> float:
        """Count the operations of the run, or of one with other settings of its model."""
        tests = 1 + epochs * self.options.test_each_epoch
        config = dataclasses.replace(self.config, **other)
        return cost.run_operations(config, self.place, epochs, tests)


def expand(
    settings: Iterable[Sequence[str]], lams: Iterable[float], signs: Sequence[str], seeds: list[int]
) -> list[Run]:
    """Turn settings, each the flags of a command line, into runs, each identity once.

    Registered data sets need no file for it. Runs that are to be compared follow each other. A
    UserError names the cell of a setting that cannot be used.
    """
    coefficients = dict.fromkeys(signed_coefficient(lam, sign) for lam in lams for sign in signs)
    pairs = list(itertools.product(seeds, coefficients))
    runs: dict[str, Run] = {}
    for argv in settings:
        try:
            setting = _check(tuple(argv))
            for seed, c in pairs:
                config = dataclasses.replace(setting.config, lip_coef=c, seed=seed)
                run = dataclasses.replace(setting, config=config)
                runs.setdefault(run.name, run)
        except UserError as error:
            given = dict(itertools.pairwise(argv))
            cell = [given[f] for f in ("--data", "--features", "--pred_len") if f in given]
            raise UserError(f"{' '.join(cell)}: {error}" if cell else str(error)) from error
    return list(runs.values())


def _check(argv: tuple[str, ...]) -> Run:
    """Check one setting's flags, windows and, where it is the user's own, file."""
    for flag in (word.split("=")[0] for word in argv):
        if flag in NOT_IN_A_SWEEP:
            raise UserError(f"{flag}: not in a sweep; {NOT_IN_A_SWEEP[flag]}")
    run = Run(*parse(list(argv)), argv)
    config = run.config
    if config.data == "custom":
        load(config, run.options)
    else:
        windows, *_ = window_counts(*run.place, config.seq_len, config.pred_len)
        check_batch_size(config.batch_size, config.data, windows)
    return run


def shard_of(runs: Iterable[Run], shard: str) -> list[Run]:
    """Choose the runs of one shard, say 3/16, of the whole grid.

    Dealt by setting and seed, so that the runs of a pair stay on one machine; in the order of the
    names, done or not: every shard finds the same deal whatever is done meanwhile, and each gets a
    like share of every setting.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--shard {shard}: must be K/N with K from 1 to N, for instance 3/16")
    alike: dict[tuple[str, int], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.name):
        alike.setdefault((setting_hash(run.record.identity), run.config.seed), []).append(run)
    dealt = list(alike.values())[int(match[1]) - 1 :: int(match[2])]
    return [run for together in dealt for run in together]


class State(NamedTuple):
    """Where a run stands: one of STATUSES, a failed run's error, what a finished one took."""

    status: str
    error: str = ""
    seconds: float = 0.0
    epochs: int = 0


def state_of(run: Run, recorded: Container[str]) -> State:
    """Read from its folder where a run stands; `recorded` names runs that ended in a study.

    With --force every run is new; one that owes the forecast of --do_predict is cut off.
    """
    folder = run.record.folder
    if run.options.force:
        return State("new")
    try:
        metrics = run.record.metrics()
    except UserError as error:
        return State("failed", str(error))
    if metrics is None:
        begun = "cut off" if (folder / "config.json").exists() else "new"
        return State("in the study" if run.name in recorded else begun)
    if metrics["status"] == "failed":
        return State("failed", metrics["error"])
    owes = run.options.do_predict and not (folder / "prediction.csv").exists()
    return State("cut off" if owes else "done", "", metrics["wall_seconds"], metrics["epochs"])
