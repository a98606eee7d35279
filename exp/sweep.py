"""Many runs: a grid of settings, lambdas, signs and seeds, done once each.

    python -m exp.sweep --lams 0 2 --signs minus plus --seeds 0 1 2 --model informer --data demo

expands the grid, prints the plan, skips what is done, continues what was cut off and sums up.
"""

import dataclasses
import itertools
import os
import shlex
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pandas as pd
from tabulate import tabulate
from tqdm import tqdm

from data.registry import DATASETS, locate
from exp import cost
from exp.config import Parser, parse_finite
from exp.exp_basic import pick_device
from exp.grid import STATUSES, Run, expand, shard_of, state_of
from exp.workers import ROOT, Local, OnRay
from utils.files import UserError
from utils.interrupt import Interrupted, signals_noted
from utils.output import run_command
from utils.progress import LINE_SECONDS, duration

STUDY = ROOT / "results" / "study" / "runs.csv"
SMALL_MODEL = {"d_model": 64, "d_ff": 256, "n_heads": 4}
LONG = 4 * 3600  # seconds from which on the plan of an own file names the small model


def build_parser() -> Parser:
    """Return the parser of the sweep's own flags; all others go to every run."""
    parser = Parser(
        prog="python -m exp.sweep",
        description="Run settings x lambdas x signs x seeds, each run once. "
        "All other flags are main_informer.py's, and go to every run.",
        allow_abbrev=False,
    )
    add, one = parser.add_argument, "file with the flags of one setting per line; - for stdin"
    number, whole = {"type": parse_finite, "metavar": "X"}, {"type": int, "metavar": "N"}
    add("--settings", type=_settings, default=[[]], metavar="FILE", help=one)
    add("--lams", nargs="+", default=[0.0, 2.0], help="values of lambda (default: 0 2)", **number)
    both = "minus: c = -lambda, plus: c = +lambda (default: both)"
    signs = ["minus", "plus"]
    add("--signs", nargs="+", default=signs, choices=signs, help=both)
    add("--seeds", nargs="+", default=[0, 1, 2, 3, 4], help="seeds (default: 0 to 4)", **whole)
    add("--shard", default="1/1", metavar="K/N", help="only the K-th of N shares, K from 1")
    add("--plan", action="store_true", help="print what there is to do and how long it takes; stop")
    text = "a study's runs.csv (results/study/runs.csv): the runs in it are done"
    add("--recorded", type=Path, metavar="FILE", help=text)
    text = "where runs go (default: local)"
    add("--engine", default="local", choices=("local", "ray"), help=text)
    add("--jobs", help="local runs at a time (one per core, or --runs_per_gpu)", **whole)
    text = "runs side by side on one GPU (default: 1; auto: as memory and cores allow)"
    add("--runs_per_gpu", default="1", metavar="N|auto", help=text)
    add("--address", default="auto", help="Ray cluster; auto: one that runs, local: one of its own")
    add("--gpus_per_run", help="Ray: GPUs per run, say 0.5 (1)", **number)
    return parser


def _settings(file: str) -> list[list[str]]:
    """Read a setting from each line of a file (a type of argparse)."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        settings = [shlex.split(line, comments=True) for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"--settings {file}: cannot be read ({error})") from error
    if not any(settings):
        raise UserError(f"--settings {file}: no setting in it")
    return [argv for argv in settings if argv]


def read_study(path: Path) -> pd.DataFrame:
    """Read the ended runs of a committed study."""
    try:
        frame = pd.read_csv(path, low_memory=False)
        return frame.loc[frame["status"].isin(["finished", "failed"]) & frame["run"].notna()]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--recorded {path}: is not a study's runs.csv ({error})") from error


class Plan:
    """A sweep's runs, or a shard's, their states, and what those to do will cost."""

    def __init__(self, runs: Sequence[Run], threads: int, recorded: Path | None = None) -> None:
        self.runs, self.threads = runs, threads
        names = set(read_study(recorded)["run"]) if recorded else ()
        self.states = states = {run.name: state_of(run, names) for run in runs}
        self.to_do = [run for run in runs if states[run.name].status in ("cut off", "new")]
        self.pace, self.source = self._pace(recorded or STUDY) if self.to_do else (0.0, "")
        self.seconds = {  # of each run to do, if it does not stop early; a forecast takes none
            run.name: 0.0 if states[run.name].epochs else self._seconds(run) for run in self.to_do
        }

    def _pace(self, study: Path) -> tuple[float, str]:
        """Return seconds an operation, and in words where that is from."""
        done = [(run, s) for run in self.runs if (s := self.states[run.name]).epochs]
        if paces := [s.seconds / run.operations(s.epochs) for run, s in done]:
            return statistics.median(paces), f"{len(paces)} finished runs of this sweep"
        run = min(self.to_do, key=lambda run: run.operations(1))
        on_processor = pick_device(run.options).type == "cpu"
        if on_processor and study.exists():
            paces = cost.recorded_paces(read_study(study), self.threads, run.config.amp)
            if paces:
                text = f"{len(paces)} recorded runs on this kind of processor"
                return statistics.median(paces), text
        options = dataclasses.replace(run.options, threads=self.threads)
        pace = cost.apart(cost.timed_pace, run.config, run.place, options)
        return pace, "the fastest of a few steps timed here"

    def _seconds(self, run: Run, **other: int) -> float:
        return self.pace * run.operations(run.config.train_epochs, **other)

    def show(self, side_by_side: int) -> None:
        """Print what is trained, a line a setting, then the sums; 0 side by side: not known."""
        print(self._headline())
        rows = []
        for _, same in itertools.groupby(self.runs, lambda run: run.argv):
            group = list(same)
            each = [duration(self.seconds[run.name]) for run in group if run.name in self.seconds]
            rows.append([*self._counts(_title(group[0]), group), *(each[:1] or "-")])
        rows.append(self._counts("total", self.runs))
        print(tabulate(rows, ["setting", "runs", *STATUSES, "time each"], tablefmt="plain"))
        if not self.to_do:
            return
        slots, load = max(1, side_by_side), os.getloadavg()[0]
        left = sum(self.seconds.values()) / slots
        print(
            f"time left: about {duration(left)}, less with early stopping; from {self.source}; "
            f"runs at a time: {side_by_side or 'counted as 1'}, threads per run: {self.threads}"
        )
        if load > (cores := os.cpu_count() or 1):
            print(f"note: this machine is loaded ({load:.1f} processes on {cores} cores): slower")
        first = self.to_do[0]
        if left > LONG and first.config.data == "custom" and first.config.d_model > 64:
            small = sum(self._seconds(run, **SMALL_MODEL) for run in self.to_do) / slots
            flags = " ".join(f"--{name} {value}" for name, value in SMALL_MODEL.items())
            print(f"note: a smaller model, {flags}, takes about {duration(small)}")
        kept = [run for run in self.to_do if run.options.weights == "keep"]
        needed = sum(cost.cost_of(run.config, run.place).weights for run in kept)
        folder = (first.options.checkpoints or first.options.results).absolute()
        free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.is_dir())).free
        print(f"disk: about {needed / 1e9:.2g} GB of weights, {free / 1e9:.3g} GB are free")
        if needed > free:
            print("warning: not enough disk; --weights drop keeps no weights")

    def _headline(self) -> str:
        configs = [run.config for run in self.runs]

        def used(name: str) -> str:
            return " ".join(str(v) for v in dict.fromkeys(getattr(c, name) for c in configs))

        arms = dict.fromkeys(c.lip_coef for c in configs)
        terms = (f" {'-' if c < 0 else '+'} {abs(c):g} Lip" if c else "" for c in arms)
        return (
            f"{used('model')} on {', '.join(dict.fromkeys(map(_data, self.runs)))}: "
            f"features {used('features')}, LipReg along the {used('lip_axis')} axis, "
            f"loss {', '.join(f'MSE{term}' for term in terms)}, seeds {used('seed')}; "
            f"what each run prints: {self.runs[0].options.results / 'logs'}"
        )

    def _counts(self, title: str, group: Sequence[Run]) -> list[str | int]:
        count = Counter(self.states[run.name].status for run in group)
        return [title, len(group), *(count[status] for status in STATUSES)]


def _data(run: Run) -> str:
    name = run.config.data
    return name if name in DATASETS else f"{Path(run.options.data_path).stem} {run.config.target}"


def _title(run: Run) -> str:
    c = run.config
    return f"{c.model} {_data(run)} {c.features} {c.seq_len}-{c.label_len}-{c.pred_len}"


class Progress:
    """How far a sweep is, by what the logs of the runs under way say."""

    def __init__(self, plan: Plan, side_by_side: int) -> None:
        self.left, self.jobs = dict(plan.seconds), {run.name: run.job for run in plan.to_do}
        self.total, self.slots = sum(self.left.values()), max(1, side_by_side)
        self.begun, self.shown = time.time(), time.monotonic()
        self.first: dict[str, tuple[float, float]] = {}  # of each run: when, and how far it was
        form = "{desc} {percentage:3.0f}%|{bar}| {elapsed} {postfix}"
        self.bar = tqdm(total=self.total or 1, disable=None, bar_format=form)  # on a terminal

    def text(self) -> str:
        """Say how many runs have ended, what is left, and where each run under way stands."""
        now, done, running = time.time(), self.total - sum(self.left.values()), []
        for name, planned in self.left.items():
            place, share = self.jobs[name].progress(self.begun)
            if place:
                since, before = self.first.setdefault(name, (now, share))
                gone = share - before
                rest = (now - since) / gone * (1 - share) if gone else planned * (1 - share)
                running.append(f"{name.rpartition('-')[0]}: {place}, {duration(rest)} left")
                done += planned * gone
        self.bar.n = done
        rest = self.total - done
        left = (now - self.begun) / done * rest if done else rest / self.slots
        count = f"{len(self.jobs) - len(self.left)}/{len(self.jobs)} runs"
        return "; ".join([f"{count}, about {duration(left)} left", *running])

    def show(self, ended: str = "") -> None:
        """Show it: on a terminal as a bar, elsewhere every minute and when a run has ended."""
        due = time.monotonic() - self.shown >= (1 if not self.bar.disable else LINE_SECONDS)
        if not due and not ended:
            return
        self.shown, text = time.monotonic(), self.text()
        if self.bar.disable or ended:
            with tqdm.external_write_mode():
                print(f"{text.partition(';')[0]}; {ended}" if ended else text, flush=True)
        self.bar.set_description_str(text.partition(";")[0])
        self.bar.set_postfix_str(text.partition("; ")[2])


def main(argv: list[str]) -> int:
    """Run one command line: 0 when all runs are done, 1 when one failed, 130 or 143 by a signal."""
    try:
        args, common = build_parser().parse_known_args(argv)
        settings = [(*setting, *common) for setting in args.settings]
        grid = expand(settings, args.lams, args.signs, args.seeds)
        mine = {run.name for run in shard_of(grid, args.shard)}
        options = grid[0].options
        if args.engine == "local":
            memory = max(cost.cost_of(run.config, run.place).memory for run in grid)
            engine = Local(options, args.jobs, args.runs_per_gpu, memory)
        elif (args.gpus_per_run or 0) < 0:
            raise UserError(f"--gpus_per_run {args.gpus_per_run:g}: must be at least 0")
        elif args.jobs is not None:
            raise UserError("--jobs: Ray decides how many fit; use --threads N, --gpus_per_run X")
        else:
            engine = OnRay(args.address, args.gpus_per_run, options.threads or 1)
        plan = Plan([run for run in grid if run.name in mine], engine.threads, args.recorded)
        plan.show(len(engine.slots))
        return 0 if args.plan else sweep(plan, engine)
    except Interrupted as error:
        print(f"stopped by {error}; the same command continues", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # while planning: nothing is under way yet
        return 130


def sweep(plan: Plan, engine: Local | OnRay) -> int:
    """Carry out what there is to do and sum up: 1 if a run failed, now or before.

    After a signal the runs under way stop at a resumable point, and Interrupted is raised.
    """
    for place in {run.place for run in plan.to_do}:
        locate(*place)
    states = plan.states.values()
    errors = {name: s.error for name, s in plan.states.items() if s.status == "failed"}
    progress = Progress(plan, len(engine.slots))
    work = engine.carry_out([run.job for run in plan.to_do])
    with signals_noted() as stop, closing(work), closing(progress.bar):
        for ended in work:
            stop.check()  # first: what a signal ended has not failed
            for name, error in ended:
                progress.left.pop(name)
                if error:
                    errors[name] = error
                progress.show(f"{name}: {f'failed: {error}' if error else 'done'}")
            progress.show()
    skipped = sum(state.status in ("done", "in the study") for state in states)
    done = len(plan.runs) - skipped - len(errors)
    print(f"done {done}, skipped {skipped} (done before), failed {len(errors)}")
    for run in plan.runs:
        if run.name in errors:
            print(f"  {run.name}: {errors[run.name]} (log: {run.job.log})")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
