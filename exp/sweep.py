"""Many runs: a grid of settings, lambdas, signs and seeds, done once each.

    python -m exp.sweep --lams 0 2 --signs minus plus --seeds 0 1 2 --model informer --data demo

expands the grid, prints the plan, skips what is done, continues what was cut off and sums up.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch
from tqdm import tqdm

from exp.config import Config, check_choice
from exp.engines import Engine, Local, OnRay, threads_of
from exp.flags import Options, Parser, number
from exp.grid import Run, expand, parse_shard, repetitions, shard_of
from exp.plan import Plan, share_done
from utils.errors import UserError
from utils.interrupt import Interrupted, signals_noted
from utils.progress import duration

REFRESH = 2.0  # seconds between looks into the folders of unfinished runs


def build_parser() -> Parser:
    """Return the parser of the sweep's own flags; all others go to every run."""
    parser = Parser(
        prog="python -m exp.sweep",
        description="Run settings x lambdas x signs x seeds, each run once. "
        "All other flags are main_informer.py's, and go to every run.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--settings",
        metavar="FILE",
        help="flags of one setting a line, # for comments; - for stdin",
    )
    add("--lams", type=number, nargs="+", default=[0.0, 2.0], metavar="X", help="default: 0 2")
    add("--signs", nargs="+", default=["minus", "plus"], metavar="minus|plus", help="default: both")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="N", help="default: 0-4")
    add("--shard", default="1/1", metavar="K/N", help="only the K-th of N shares, K from 1")
    add("--plan", action="store_true", help="print what there is to do and how long it takes; stop")
    add("--engine", default="local", metavar="local|ray", help="where runs go (default: local)")
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="local runs at a time (default: one a GPU, else one a core)",
    )
    add("--address", default="auto", help="Ray cluster; auto: one that runs, local: one of its own")
    add(
        "--gpus_per_run",
        type=number,
        metavar="X",
        help="Ray: GPUs a run takes, say 0.5 (default 1)",
    )
    return parser


def main(words: list[str]) -> int:
    """Run one command line and return the exit code.

    Args:
        words: the command line without the program's name.

    Returns:
        0 when all runs are done, 1 when one failed, 2 after a mistake in flags or data, 130 or 143
        after SIGINT or SIGTERM.
    """
    try:
        asked, common = build_parser().parse_known_args(words)
        return _sweep(asked, common)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as error:
        print(f"stopped by {error}; the same command continues", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # while planning: nothing is under way yet
        return 130


def _sweep(asked: argparse.Namespace, common: list[str]) -> int:
    for sign in asked.signs:
        check_choice("signs", sign, ["minus", "plus"])
    check_choice("engine", asked.engine, ["local", "ray"])
    shard = parse_shard(asked.shard)
    settings = [(*words, *common) for words in _read_settings(asked.settings)]
    grid = expand(settings, lams=asked.lams, signs=asked.signs, seeds=asked.seeds)
    mine = shard_of([run.name for run in grid], shard)
    runs = [run for run in grid if run.name in mine]
    options = grid[0].options
    if asked.engine == "local":
        return sweep(runs, Local.of(options, asked.jobs), plan_only=asked.plan)
    if asked.jobs is not None:
        raise UserError("--jobs: Ray decides how many fit; say --threads N and --gpus_per_run X")
    engine = OnRay(asked.address, asked.gpus_per_run, options.threads or 1)
    return sweep(runs, engine, plan_only=asked.plan)


def _read_settings(file: str | None) -> list[list[str]]:
    """Read a setting from each line; without a file there is one, of the common flags alone."""
    if file is None:
        return [[]]
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        settings = [shlex.split(line, comments=True) for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"--settings {file}: cannot be read ({error})") from error
    settings = [words for words in settings if words]
    if not settings:
        raise UserError(f"--settings {file}: no setting in it; do FEATURES and PRED_LENS fit?")
    return settings


def named_gpus(options: Options) -> list[str]:
    """Return the GPUs of --use_multi_gpu, none without that flag.

    Raises:
        UserError: one is not there.
    """
    if not options.use_multi_gpu:
        return []
    gpus, count = options.devices.replace(" ", "").split(","), torch.cuda.device_count()
    if not all(gpu.isdecimal() and int(gpu) < count for gpu in gpus):
        raise UserError(
            f"--devices {options.devices}: this machine has {count} CUDA devices; "
            "name those, or leave --use_multi_gpu out"
        )
    return gpus


def spread(words: Sequence[str], config: Config, options: Options, gpus: Sequence[str]) -> int:
    """Spread the repetitions of one command of main_informer.py over GPUs, one a GPU in turn.

    Returns:
        The exit code: 1 if a repetition failed.
    """
    alone = [word for word in words if word != "--use_multi_gpu"] + ["--device", "cuda"]
    seeds = range(config.seed, config.seed + options.itr)
    runs = repetitions(config, options, alone, [config.lip_coef], seeds)
    places = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    return sweep(runs, Local(places, threads_of(options, len(places))))


def sweep(runs: Sequence[Run], engine: Engine, *, plan_only: bool = False) -> int:
    """Print the plan, carry out what there is to do, and sum up.

    Args:
        runs: the grid, or a shard of it.
        engine: what carries them out.
        plan_only: stop after the plan, with nothing written.

    Returns:
        The exit code: 1 if a run failed, now or when it was last tried.

    Raises:
        Interrupted: a signal came; the runs under way have stopped at a resumable point.
    """
    plan = Plan(runs, engine.threads)
    plan.show(engine.at_a_time)
    if plan_only:
        return 0
    states = plan.states
    errors = {name: state.error for name, state in states.items() if state.status == "failed"}
    work = engine.carry_out(plan.to_do)
    with signals_noted() as stop, closing(work), closing(Board(plan)) as board:
        for ended in work:
            for name, error in ended:
                board.end(name, error)
                if error:
                    errors[name] = error
            board.refresh()
            stop.check()
    skipped = sum(state.status == "done" for state in states.values())
    done = len(states) - skipped - len(errors)
    print(f"done {done}, skipped {skipped} (done before), failed {len(errors)}")
    for run in runs:
        if run.name in errors:
            print(f"  {run.name}: {errors[run.name]} (log: {run.log})")
    return 1 if errors else 0


class Board:
    """One progress bar over all runs; where there is no terminal, a line whenever a run ends.

    Args:
        plan: what there is to do; its estimates weigh the runs.
    """

    def __init__(self, plan: Plan) -> None:
        self.seconds = plan.seconds
        self.left = {run.name: run for run in plan.to_do}
        self.first = {run.name: share_done(run) for run in plan.to_do}
        self.runs, self.ended = len(self.left), 0.0
        self.begun, self.looked = time.monotonic(), 0.0
        self.bar = tqdm(
            total=plan.seconds_left,
            smoothing=0,
            disable=not sys.stderr.isatty(),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left",
        )

    @property
    def count(self) -> str:
        """How many runs have ended, of how many."""
        return f"{self.runs - len(self.left)}/{self.runs} runs"

    def end(self, name: str, error: str | None) -> None:
        """Note a run's end, and tell it where there is no bar."""
        self.left.pop(name)
        self.ended += self.seconds[name] * (1 - self.first[name])
        self.looked = 0.0
        if self.bar.disable or error:
            total = self.bar.total
            pace = (time.monotonic() - self.begun) / self.ended if self.ended else 1.0
            told = f"failed: {error}" if error else "done"
            with tqdm.external_write_mode():
                print(
                    f"{self.count}, about {duration(pace * (total - self.ended))} left: "
                    f"{name}: {told}",
                    flush=True,
                )

    def refresh(self) -> None:
        """Move the bar by what runs have recorded since."""
        if self.bar.disable or time.monotonic() - self.looked < REFRESH:
            return
        self.looked = time.monotonic()
        self.bar.n = self.ended + sum(
            self.seconds[name] * max(0.0, share_done(run) - self.first[name])
            for name, run in self.left.items()
        )
        self.bar.set_description_str(self.count)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
