"""Many runs: a grid of settings, lambdas, signs and seeds, done once each.

    python -m exp.sweep --lams 0 2 --signs minus plus --seeds 0 1 2 --model informer --data demo

expands the grid, prints the plan, skips what is done, continues what was cut off and sums up.
"""

import itertools
import multiprocessing
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from data.registry import DATASETS, locate
from exp.config import Config, Options, Parser, parse_finite
from exp.exp_basic import pick_device
from exp.grid import Run, expand, shard_of, state_of, timed_pace
from exp.run import missing_outputs
from exp.workers import ROOT, Local, OnRay
from utils.environment import environment
from utils.files import UserError
from utils.interrupt import Interrupted, signals_noted
from utils.output import run_command
from utils.progress import LINE_SECONDS, duration

STUDY = ROOT / "results" / "study" / "runs.csv"
SIZES = ("seq_len", "label_len", "pred_len", "d_model", "n_heads", "d_ff", "factor")
SIZES += ("e_layers", "d_layers", "batch_size", "eval_batch_size")
SMALL_MODEL = {"d_model": 64, "d_ff": 256, "n_heads": 4}
LONG = 4 * 3600  # seconds from which on the plan of an own file names the small model


def build_parser() -> Parser:
    """Return the parser of the sweep's own flags; all others go to every run."""
    text = "Run settings x lambdas x signs x seeds, each run once. All other flags are "
    text += "main_informer.py's, and go to every run."
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
    add("--recorded", type=Path, metavar="FILE", help=text)
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
        settings = [shlex.split(line, comments=True) for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"--settings {file}: cannot be read ({error})") from error
    if not any(settings):
        raise UserError(f"--settings {file}: no setting in it")
    return [flags for flags in settings if flags]


def read_study(path: Path) -> pd.DataFrame:
    """Read the ended runs of a committed study."""
    try:
        frame = pd.read_csv(path, low_memory=False)
        return frame.loc[frame["status"].isin(["finished", "failed"]) & frame["run"].notna()]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--recorded {path}: is not a study's runs.csv") from error


def recorded_paces(study: pd.DataFrame, threads: int, amp: str) -> list[float]:
    """Return seconds an operation of a study's runs on such a processor, with as many threads."""
    processor = environment(torch.device("cpu"))["processor"]
    same = {"status": "finished", "device": "cpu", "processor": processor, "threads": str(threads)}
    for name, value in {**same, "amp": amp}.items():  # threads are text where sittings differ
        study = study.loc[study[name].astype(str) == value]
    paces = []
    for row in study.loc[study["data"].isin(list(DATASETS))].to_dict("records"):
        sizes: dict[str, Any] = {name: int(row[name]) for name in SIZES if pd.notna(row[name])}
        names = {name: row[name] for name in ("model", "data", "features", "attn", "amp")}
        run = Run(Config(**names, **sizes), Options(), ())
        paces.append(row["wall_seconds"] / run.operations(int(row["epochs"])))
    return paces


class Plan:
    """A sweep's runs, or a shard's, where they stand, and the seconds that those to do take."""

    def __init__(self, runs: Sequence[Run], threads: int, recorded: Path | None = None) -> None:
        names = set(read_study(recorded)["run"]) if recorded else ()
        self.runs, self.threads = runs, threads
        self.states = {run.name: state_of(run, names) for run in runs}
        self.to_do, self.failed = (
            [run for run in runs if self.states[run.name][0] in statuses]
            for statuses in (("cut off", "new"), ("failed",))
        )
        self.pace, self.source = self._pace(recorded or STUDY) if self.to_do else (0.0, "")
        self.seconds = {run.name: self._seconds(run) for run in self.to_do}

    def _pace(self, study: Path) -> tuple[float, str]:
        """Return seconds an operation, and in words where that is from."""
        shortest, paces = min(self.to_do, key=lambda run: run.operations(1)), []
        for run in self.runs:
            metrics = self.states[run.name][1]
            if "epochs" in metrics:
                paces.append(metrics["wall_seconds"] / run.operations(metrics["epochs"]))
        source = "finished runs of this sweep"
        if not paces and pick_device(shortest.options).type == "cpu" and study.exists():
            paces = recorded_paces(read_study(study), self.threads, shortest.config.amp)
            source = "recorded runs on this kind of processor"
        if paces:
            return median(paces), f"{len(paces)} {source}"
        # in a process of its own, which leaves no CUDA context here
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pace = pool.submit(timed_pace, shortest, self.threads).result()
        return pace, "the fastest of a few steps timed here"

    def _seconds(self, run: Run, **changes: int) -> float:
        """Return what a run takes if it does not stop early; a forecast that is owed takes none."""
        trained = bool(self.states[run.name][1])
        return 0.0 if trained else self.pace * run.operations(run.config.train_epochs, **changes)

    def show(self, side_by_side: int) -> None:
        """Print what there is to do and how long it takes."""
        if not self.runs:
            print("no run falls into this share")
            return
        features, seeds, losses = (
            dict.fromkeys(str(getattr(run.config, name)) for run in self.runs)
            for name in ("features", "seed", "loss_text")
        )
        print(f"features {' '.join(features)}, seeds {' '.join(seeds)}, {'; '.join(losses)}")
        count = Counter(status for status, _ in self.states.values())
        print(", ".join(f"{number} {status}" for status, number in count.items()))
        for title, runs in itertools.groupby(self.runs, lambda run: run.name.rpartition("_c")[0]):
            group = list(runs)
            each = [self.seconds[run.name] for run in group if run.name in self.seconds]
            text = f", {duration(max(each))} each" if each else ""
            print(f"  {title}: {len(group)} runs{text}")
        logs = dict.fromkeys(str(run.log.parent) for run in self.runs)
        print(f"what each run prints: {' '.join(logs)}")
        trained = [run for run in self.runs if "epochs" in self.states[run.name][1]]
        missing = Counter(f for r in trained for f in missing_outputs(r.record.folder, r.options))
        for flag, number in missing.items():
            print(f"note: {number} of the done were made without --{flag}; --force repeats them")
        if not self.to_do:
            return
        side_by_side = min(side_by_side, len(self.to_do))
        left, config = sum(self.seconds.values()) / side_by_side, self.to_do[0].config
        print(
            f"time left: about {duration(left)}, less with early stopping; from {self.source}; "
            f"runs at a time: {side_by_side}, threads per run: {self.threads}"
        )
        if (load := os.getloadavg()[0]) > (cores := os.cpu_count() or 1):
            print(f"note: this machine is loaded ({load:.1f} processes on {cores} cores): slower")
        if left > LONG and config.data == "custom" and config.d_model > SMALL_MODEL["d_model"]:
            small = sum(self._seconds(run, **SMALL_MODEL) for run in self.to_do) / side_by_side
            flags = " ".join(f"--{name} {value}" for name, value in SMALL_MODEL.items())
            print(f"note: a smaller model, {flags}, takes about {duration(small)}")


def last_line(run: Run, since: float) -> str:
    """Return the last line of a run's log; "" if nothing was written to it since then."""
    if not run.log.exists() or run.log.stat().st_mtime < since:
        return ""
    line = run.log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
    return f"{run.name.rpartition('-')[0]}: {line}"


def sweep(plan: Plan, engine: Local | OnRay) -> int:
    """Carry out what there is to do and sum up: 1 if a run failed, now or before.

    After a signal the runs under way stop at a resumable point, and Interrupted is raised.
    """
    for place in {run.place for run in plan.to_do}:
        locate(*place)
    errors = {run.name: plan.states[run.name][1]["error"] for run in plan.failed}
    left, begun = {run.name: run for run in plan.to_do}, time.time()
    total, shown = sum(plan.seconds.values()), begun
    form = "{n_fmt}/{total_fmt} runs |{bar}|{postfix}"
    bar = tqdm(total=len(left), disable=None, dynamic_ncols=True, bar_format=form)
    work = engine.carry_out(plan.to_do)
    with signals_noted() as stop, closing(work), closing(bar):
        for ended in work:
            stop.check()  # first: what a signal ended has not failed
            for name, error in ended:
                del left[name]
                if error:
                    errors[name] = error
                bar.update()
                tqdm.write(f"{name}: {f'failed: {error}' if error else 'done'}")
            if time.time() - shown > (LINE_SECONDS if bar.disable else 1):
                shown = time.time()
                planned = sum(plan.seconds[name] for name in left)
                text = f"about {duration(planned / engine.side_by_side)} left by the plan"
                if ended_seconds := total - planned:  # they say how fast it goes here
                    text = f"about {duration(planned / ended_seconds * (shown - begun))} left"
                lines = [text]
                lines += filter(None, (last_line(run, begun) for run in left.values()))
                bar.set_postfix_str("; ".join(lines))
                if bar.disable:
                    text = "\n  ".join(lines)
                    print(f"{len(plan.to_do) - len(left)}/{len(plan.to_do)} runs, {text}")
    skipped = len(plan.runs) - len(plan.to_do) - len(plan.failed)
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
        settings = [(*setting, *common) for setting in args.settings]
        grid = expand(settings, args.lams, args.signs, args.seeds)
        options, ray = grid[0].options, args.engine == "ray"
        if min(1 if args.jobs is None else args.jobs, args.runs_per_gpu) < 1:
            raise UserError("--jobs, --runs_per_gpu: must be at least 1")
        if ray and args.jobs:
            raise UserError("--jobs: Ray decides how many fit; use --threads and --runs_per_gpu")
        per_gpu = args.runs_per_gpu
        engine = OnRay(options, per_gpu) if ray else Local(options, args.jobs, per_gpu)
        plan = Plan(shard_of(grid, args.shard), engine.threads, args.recorded)
        plan.show(engine.side_by_side)
        return 0 if args.plan else sweep(plan, engine)
    except Interrupted as error:
        print(f"stopped by {error}; the same command continues", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # while planning: nothing is under way yet
        return 130


if __name__ == "__main__":
    sys.exit(run_command(main))
