"""Many runs: a grid of settings, lambdas, signs and seeds, done once each.

    python -m exp.sweep --lams 0 2 --signs minus plus --seeds 0 1 2 --model informer --data demo

expands the grid, prints the plan, skips what is done, continues what was cut off and sums up.
"""

import shlex
import sys
import time
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from data.registry import locate
from exp.config import Parser, check_choice, parse_finite
from exp.grid import expand, shard_of
from exp.plan import Plan
from exp.workers import Local, OnRay
from utils.files import UserError
from utils.interrupt import Interrupted, signals_noted
from utils.output import run_command
from utils.progress import duration


def build_parser() -> Parser:
    """Return the parser of the sweep's own flags; all others go to every run."""
    parser = Parser(
        prog="python -m exp.sweep",
        description="Run settings x lambdas x signs x seeds, each run once. "
        "All other flags are main_informer.py's, and go to every run.",
        allow_abbrev=False,
    )
    add, one = parser.add_argument, "file with the flags of one setting per line; - for stdin"
    add("--settings", type=_settings, default=[[]], metavar="FILE", help=one)
    add(
        "--lams",
        type=parse_finite,
        nargs="+",
        default=[0.0, 2.0],
        metavar="X",
        help="values of lambda (default: 0 2)",
    )
    both = "minus: c = -lambda, plus: c = +lambda (default: both)"
    add("--signs", nargs="+", default=["minus", "plus"], metavar="minus|plus", help=both)
    add(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2, 3, 4],
        metavar="N",
        help="seeds (default: 0 to 4)",
    )
    add("--shard", default="1/1", metavar="K/N", help="only the K-th of N shares, K from 1")
    add("--plan", action="store_true", help="print what there is to do and how long it takes; stop")
    add("--engine", default="local", metavar="local|ray", help="where runs go (default: local)")
    add(
        "--jobs",
        type=int,
        metavar="N",
        help="local runs at a time (one per core, or per GPU)",
    )
    add(
        "--runs_per_gpu",
        default="1",
        metavar="N|auto",
        help="runs side by side on one GPU (default: 1; auto: as memory allows)",
    )
    add("--address", default="auto", help="Ray cluster; auto: one that runs, local: one of its own")
    add("--gpus_per_run", type=parse_finite, metavar="X", help="Ray: GPUs per run, say 0.5 (1)")
    return parser


def _settings(file: str) -> list[list[str]]:
    """Read a setting from each line of a file (a type of argparse)."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        settings = [shlex.split(line, comments=True) for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"--settings {file}: cannot be read ({error})") from error
    if not any(settings):
        raise UserError(f"--settings {file}: no setting in it")
    return [words for words in settings if words]


def main(words: list[str]) -> int:
    """Run one command line: 0 when all runs are done, 1 when one failed, 130 or 143 by a signal."""
    try:
        asked, common = build_parser().parse_known_args(words)
        for sign in asked.signs:
            check_choice("signs", sign, ["minus", "plus"])
        check_choice("engine", asked.engine, ["local", "ray"])
        settings = [(*words, *common) for words in asked.settings]
        grid = expand(settings, asked.lams, asked.signs, asked.seeds)
        mine = {run.name for run in shard_of(grid, asked.shard)}
        options = grid[0].options
        if asked.engine == "local":
            engine = Local(options, asked.jobs, asked.runs_per_gpu)
        elif (asked.gpus_per_run or 0) < 0:
            raise UserError(f"--gpus_per_run {asked.gpus_per_run:g}: must be at least 0")
        elif asked.jobs is not None:
            raise UserError("--jobs: Ray decides how many fit; use --threads N, --gpus_per_run X")
        else:
            engine = OnRay(asked.address, asked.gpus_per_run, options.threads or 1)
        plan = Plan([run for run in grid if run.name in mine], engine.threads)
        plan.show(len(engine.slots))
        return 0 if asked.plan else sweep(plan, engine)
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
    errors = {name: s.error for name, s in plan.states.items() if s.status == "failed"}
    left, begun, work = dict(plan.seconds), time.monotonic(), engine.carry_out(plan.to_do)
    total, form = sum(left.values()), "{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
    bar = tqdm(total=total, smoothing=0, disable=None, bar_format=form)  # on a terminal
    with signals_noted() as stop, closing(work), closing(bar):
        for ended in work:
            stop.check()  # first: what a signal ended has not failed
            for name, error in ended:
                bar.update(left.pop(name))
                rest = sum(left.values())
                pace = (time.monotonic() - begun) / (total - rest)
                count = f"{len(plan.to_do) - len(left)}/{len(plan.to_do)} runs"
                bar.set_description_str(count)
                if error:
                    errors[name] = error
                state = f"left: {name}: {f'failed: {error}' if error else 'done'}"
                with tqdm.external_write_mode():
                    print(f"{count}, about {duration(pace * rest)} {state}", flush=True)
            bar.refresh()
    skipped = sum(state.status == "done" for state in plan.states.values())
    done = len(plan.runs) - skipped - len(errors)
    print(f"done {done}, skipped {skipped} (done before), failed {len(errors)}")
    for run in plan.runs:
        if run.name in errors:
            print(f"  {run.name}: {errors[run.name]} (log: {run.log})")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
