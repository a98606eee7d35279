"""Many runs: a grid of settings, lambdas, signs and seeds, done once each.

    python -m exp.sweep --lams 0 2 --signs minus plus --seeds 0 1 2 --model informer --data demo

expands the grid, prints the plan, skips what is done, continues what was cut off and sums up.
"""

import itertools
import multiprocessing
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from data.registry import locate
from exp.config import Parser, parse_finite
from exp.grid import Run, expand, shard_of, step_seconds
from exp.record import read_runs
from exp.workers import Ended, cores, local, on_ray, places_for
from utils.files import UserError
from utils.interrupt import Interrupted, signals_noted
from utils.output import run_command
from utils.progress import LINE_SECONDS, duration

STATES = {"finished": "done", "failed": "failed", "damaged": "failed", "unfinished": "cut off"}


def build_parser() -> Parser:
    """Return the parser of the sweep's own flags; all others go to every run."""
    text = "Settings x lambdas x signs x seeds. Other flags are main_informer.py's, for every run."
    parser = Parser(prog="python -m exp.sweep", description=text, allow_abbrev=False)
    add, signs = parser.add_argument, ("minus", "plus")
    number: dict[str, Any] = {"type": parse_finite, "metavar": "X"}
    whole: dict[str, Any] = {"type": int, "metavar": "N"}
    text = "file with the flags of one setting per line; - for stdin"
    add("--settings", type=_settings, default=[[]], metavar="FILE", help=text)
    add("--lams", nargs="+", default=[0.0, 2.0], help="values of lambda (default: 0 2)", **number)
    text = "minus: c = -lambda, plus: c = +lambda (default: both)"
    add("--signs", nargs="+", default=signs, choices=signs, help=text)
    add("--seeds", nargs="+", default=[0, 1, 2, 3, 4], help="seeds (default: 0 to 4)", **whole)
    add("--shard", default="1/1", metavar="K/N", help="only the K-th of N shares, K from 1")
    add("--plan", action="store_true", help="print what there is to do and how long it takes; stop")
    text = "a study's runs.csv (results/study/runs.csv): the runs in it are done"
    add("--recorded", type=_recorded, default=set(), metavar="FILE", help=text)
    text = "where runs go (default: local)"
    add("--engine", default="local", choices=("local", "ray"), help=text)
    text = "local runs at a time (one per core and 4 GB of memory, or --runs_per_gpu)"
    add("--jobs", help=text, **whole)
    add("--runs_per_gpu", default=1, help="runs side by side on one GPU (default: 1)", **whole)
    return parser


def _settings(file: str) -> list[list[str]]:
    """Read a setting from each line of a file (a type of argparse)."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--settings {file}: cannot be read ({error})") from error
    settings = [shlex.split(line, comments=True) for line in text.splitlines()]
    if not any(settings):
        raise UserError(f"--settings {file}: no setting in it")
    return [flags for flags in settings if flags]


def _recorded(file: str) -> set[str]:
    """Read the names of a study's ended runs (a type of argparse)."""
    try:
        study = pd.read_csv(file, usecols=["run", "status"])
    except (OSError, ValueError) as error:
        raise UserError(f"--recorded {file}: is not a study's runs.csv") from error
    return set(study.loc[study["status"].isin(["finished", "failed"]), "run"])


class Plan:
    """A sweep's runs, where each stands, and the seconds that those to do take.

    A run is new (with --force all are), cut off, failed, done, or in a study that names it.
    """

    def __init__(self, runs: Sequence[Run], threads: int, recorded: set[str]) -> None:
        self.runs, self.threads, results = runs, threads, runs[0].options.results
        found = read_runs(results) if results.is_dir() else pd.DataFrame()
        found = found.reindex(columns=["run", "status", "error", "setting_id", "wall_seconds"])
        found = found.set_index("run")  # even if there is none
        states = found["status"].replace(STATES).to_dict()
        states |= {run: "in the study" for run in recorded if states.get(run) in (None, "cut off")}
        states |= {run.name: "new" for run in runs if run.options.force or run.name not in states}
        self.states = {run.name: states[run.name] for run in runs}
        failed = [name for name, state in self.states.items() if state == "failed"]
        self.errors = found["error"].loc[failed].to_dict()
        self.to_do = [run for run in runs if self.states[run.name] in ("new", "cut off")]
        self.takes = self._takes(found.loc[found["status"] == "finished"])

    def _takes(self, finished: pd.DataFrame) -> dict[str, tuple[float, str]]:
        """Return what a run of each setting takes: seconds, and in words where they are from.

        The median of its finished runs, or its steps as long as one takes here, in a process of
        its own: this one keeps its threads and has no CUDA context.
        """
        takes: dict[str, tuple[float, str]] = {}
        for setting, times in finished.groupby("setting_id")["wall_seconds"]:
            takes[str(setting)] = median(times), f"median of {len(times)} finished"
        untimed = {run.setting: run for run in self.to_do if run.setting not in takes}
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            times = pool.map(step_seconds, untimed.values(), itertools.repeat(self.threads))
            for run, seconds in zip(untimed.values(), times, strict=True):
                takes[run.setting] = run.steps * seconds, "by a step timed here"
        return takes

    def seconds(self, runs: Iterable[Run]) -> float:
        """Return what these runs take one after the other."""
        return sum(self.takes[run.setting][0] for run in runs)

    def show(self, side_by_side: int) -> None:
        """Print what there is to do and how long it takes."""
        features, seeds, losses = (
            dict.fromkeys(str(getattr(run.config, name)) for run in self.runs)
            for name in ("features", "seed", "loss_text")
        )
        print(f"features {' '.join(features)}, seeds {' '.join(seeds)}, {'; '.join(losses)}")
        print(", ".join(f"{n} {state}" for state, n in Counter(self.states.values()).items()))
        titles = {run.setting: run.name.rpartition("_c")[0] for run in self.runs}
        for setting, number in Counter(run.setting for run in self.runs).items():
            seconds, source = self.takes.get(setting, (0.0, ""))
            text = f", {duration(seconds)} each ({source})" if source else ""
            print(f"  {titles[setting]}: {number} runs{text}")
        print(f"what each run prints: {self.runs[0].log.parent}")
        if self.to_do:
            side_by_side = min(side_by_side, len(self.to_do))
            left = duration(self.seconds(self.to_do) / side_by_side)
            text = f"runs at a time: {side_by_side}, threads per run: {self.threads}"
            print(f"time left: about {left}, less with early stopping; {text}")


def last_line(run: Run, since: float) -> str:
    """Return the last line of a run's log; "" if nothing was written to it since then."""
    if not run.log.exists() or run.log.stat().st_mtime < since:
        return ""
    line = run.log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
    return f"\n  {run.name.rpartition('-')[0]}: {line}"


def sweep(plan: Plan, work: Ended, side_by_side: int) -> int:
    """Carry out what there is to do and sum up: 1 if a run failed, now or before.

    After a signal the runs under way stop at a resumable point, and Interrupted is raised.
    """
    for place in {run.place for run in plan.to_do}:
        locate(*place)
    errors, left = dict(plan.errors), {run.name: run for run in plan.to_do}
    begun = shown = time.time()
    with signals_noted() as stop, closing(work):
        for ended in work:
            stop.check()  # first: what a signal ended has not failed
            for name, error in ended:
                del left[name]
                errors |= {name: error} if error else {}
                print(f"{name}: {f'failed: {error}' if error else 'done'}")
            if time.time() - shown > LINE_SECONDS:
                shown, planned = time.time(), plan.seconds(left.values())
                speed = (plan.seconds(plan.to_do) - planned) / (shown - begun) or side_by_side
                count = f"{len(plan.to_do) - len(left)}/{len(plan.to_do)} runs"
                lines = "".join(last_line(run, begun) for run in left.values())
                print(f"{count}, about {duration(planned / speed)} left{lines}")
    skipped = len(plan.runs) - len(plan.to_do) - len(plan.errors)
    done = len(plan.runs) - skipped - len(errors)
    print(f"done {done}, skipped {skipped} (done before), failed {len(errors)}")
    for run in plan.runs:
        if run.name in errors:
            print(f"  {run.name}: {errors[run.name]} (log: {run.log})")
    return 1 if errors else 0


def main(argv: list[str]) -> int:
    """Run one command line: 0 when all runs are done, 1 when one failed, 130 or 143 by a signal."""
    try:
        args, common = build_parser().parse_known_args(argv)
        if min(args.jobs or 1, args.runs_per_gpu) < 1:
            raise UserError("--jobs, --runs_per_gpu: must be at least 1")
        settings = [(*setting, *common) for setting in args.settings]
        runs = shard_of(expand(settings, args.lams, args.signs, args.seeds), args.shard)
        if not runs:
            print("no run falls into this share")
            return 0
        options, ray = runs[0].options, args.engine == "ray"  # which alone knows how many fit
        places = [()] if ray else places_for(options, args.jobs, args.runs_per_gpu)
        threads = options.threads or (1 if ray else max(1, cores() // len(places)))
        plan = Plan(runs, threads, args.recorded)
        plan.show(len(places))
        if args.plan:
            return 0
        engine = (
            partial(on_ray, gpu=1 / args.runs_per_gpu) if ray else partial(local, places=places)
        )
        return sweep(plan, engine(plan.to_do, threads), len(places))
    except Interrupted as error:
        print(f"stopped by {error}; the same command continues", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # while planning: nothing is under way yet
        return 130


if __name__ == "__main__":
    sys.exit(run_command(main))
