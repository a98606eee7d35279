"""Speed and memory beside a peer's, measured in one run, interleaved: python -m exp.bench."""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from exp.samples import save_figure
from utils.environment import describe
from utils.errors import UserError
from utils.files import write_atomic
from utils.progress import Meter

# Lengths, ProbSparse factor, and rounds for each repetition asked for: short steps vary more.
SETTINGS = {"48/48/24": ((48, 48, 24), 3, 5), "720/168/24": ((720, 168, 24), 5, 1)}
PEER = "neuralforecast, fp32"
CONTENDERS = {
    "this project, fp32": ["own"],
    "this project, bf16": ["own", "--amp", "bf16"],
    PEER: ["peer"],
}
EPOCH_STEPS = 267  # of ETTh2 at 48/48/24, batch 32
GROWTH = (96, 192, 384, 720, 1440)
LABEL_LEN = 48  # of the growth with the input length, which must not be shorter


class Worker:
    """A contender's process.

    Args:
        words: its arguments.
        threads: its processor threads.

    Raises:
        UserError: it does not start; as do its methods where it has ended.
    """

    def __init__(self, words: list[str], threads: int) -> None:
        self.words = words
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "exp.bench_worker", *words, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            text=True,
        )
        while (line := self._read()) != "ready":  # libraries may greet first
            if line.startswith("note: "):
                print(line)

    def ask(self, what: str) -> float:
        """Have something done and return the answer: seconds, or MB."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer, which says more
            self.process.stdin.write(f"{what}\n")
            self.process.stdin.flush()
        return float(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return line.strip()
        code = self.process.wait()
        self.errors.seek(0)
        last = (self.errors.read().strip() or "no message").split("\n")[-1]
        self.close()
        raise UserError(
            f"{' '.join(self.words)}: ended with code {code}: {last.removeprefix('error: ')}"
        )

    def close(self) -> None:
        """End the process."""
        self.process.communicate()
        self.errors.close()


def compare(name: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the contenders' training steps in turn, one step each a round.

    Args:
        name: one of SETTINGS.
        asked: repetitions, threads, data, d_model.

    Returns:
        One row a contender: seconds a step (median, min, max), how many times faster than the peer
        (median over rounds), peak memory after these steps, share of the data pipeline, and the
        time of an epoch of ETTh2 S 24 with its validation in steps of the peer. NaN where there is
        no peer, and for what only our contenders, or ETTh2 at 48/48/24, have.
    """
    lengths, factor, rounds = SETTINGS[name]
    common = ["--lengths", *map(str, lengths), "--factor", str(factor), "--data", asked.data]
    common += ["--d_model", str(asked.d_model)]
    contenders = {
        contender: words
        for contender, words in CONTENDERS.items()
        if contender != PEER or importlib.util.find_spec("neuralforecast")
    }
    workers = {key: Worker([*words, *common], asked.threads) for key, words in contenders.items()}
    times: dict[str, list[float]] = {key: [] for key in workers}
    meter = Meter(name, asked.repetitions * rounds + 1)
    for repetition in range(meter.total):
        for key, worker in workers.items():
            seconds = worker.ask("step")
            if repetition:  # the first warms up
                times[key].append(seconds)
        meter.step()
    meter.close()
    with_epoch = PEER in times and name == "48/48/24" and asked.data == "ETTh2"
    peer = statistics.median(times[PEER]) if with_epoch else math.nan
    rows = []
    for key, worker in workers.items():
        row = {"setting": name, "contender": key, **_spread(times[key])}
        row |= {"times_faster": _ratio(times, key), "peak_memory_mb": worker.ask("memory")}
        rows.append({**row, **_own_parts(key, worker, row["step_seconds"], peer)})
        worker.close()
    return rows


def _spread(seconds: list[float]) -> dict[str, float]:
    return {
        "step_seconds": statistics.median(seconds),
        "step_min": min(seconds),
        "step_max": max(seconds),
    }


def _ratio(times: dict[str, list[float]], key: str) -> float:
    """Return the median over rounds of the peer's time by the contender's."""
    if PEER not in times:
        return math.nan
    return statistics.median(a / b for a, b in zip(times[PEER], times[key], strict=True))


def _own_parts(key: str, worker: Worker, step: float, peer: float) -> dict[str, float]:
    """Time the data pipeline and, where an epoch is to be compared, the validation."""
    if key == PEER:
        return {"data_share": math.nan, "epoch_in_peer_steps": math.nan}
    batch = statistics.median(worker.ask("batch") for _ in range(20))
    validation = math.nan if math.isnan(peer) else worker.ask("validate")
    epoch = (EPOCH_STEPS * step + validation) / peer
    return {"data_share": batch / step, "epoch_in_peer_steps": epoch}


def growth(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Time one process for each input length and attention: seconds a step, peak memory."""
    rows = []
    for attn in ("prob", "full"):
        for seq_len in asked.growth:
            words = ["own", "--lengths", str(seq_len), str(LABEL_LEN), "24", "--attn", attn]
            words += ["--data", asked.data, "--d_model", str(asked.d_model)]
            worker = Worker(words, asked.threads)
            worker.ask("step")
            steps = [worker.ask("step") for _ in range(max(1, asked.repetitions // 2))]
            row = {"attn": attn, "seq_len": seq_len, **_spread(steps)}
            rows.append({**row, "peak_memory_mb": worker.ask("memory")})
            worker.close()
            print(f"{attn} {seq_len}: {row['step_seconds']:.2f} s", flush=True)
    return rows


def plot(steps: pd.DataFrame, lengths: pd.DataFrame, path: Path) -> None:
    """Draw step times of the contenders and, where it was measured, growth with the length."""
    panels = 1 if lengths.empty else 3
    figure, grid = plt.subplots(
        1, panels, figsize=(2 + 3 * panels, 3.4), layout="constrained", squeeze=False
    )
    axes = grid[0]
    colours = dict(zip(CONTENDERS, ("#0072B2", "#56B4E9", "#777777"), strict=True))
    labels = []
    for place, row in enumerate(steps.to_dict("records")):
        low, high = row["step_seconds"] - row["step_min"], row["step_max"] - row["step_seconds"]
        point = {"fmt": "o", "color": colours[row["contender"]], "capsize": 3}
        axes[0].errorbar(row["step_seconds"], place, xerr=[[low], [high]], **point)
        labels.append(f"{row['setting']}\n{row['contender']}")
    axes[0].set_yticks(range(len(labels)), labels, fontsize="x-small")
    axes[0].invert_yaxis()
    axes[0].set(xscale="log", xlabel="seconds a training step", title="median, min to max")
    _scale(axes[0].xaxis)
    shown = {"step_seconds": "seconds a training step", "peak_memory_mb": "peak memory, MB"}
    for axis, (column, label) in zip(axes[1:], shown.items(), strict=False):
        for attn, style in (("prob", "o-"), ("full", "s--")):
            part = lengths[lengths["attn"] == attn]
            name = "ProbSparse" if attn == "prob" else "full"
            axis.plot(part["seq_len"], part[column], style, label=name)
        axis.set(xlabel="input length, steps", ylabel=label, xscale="log", yscale="log")
        axis.set_xticks(ticks := sorted(set(lengths["seq_len"])), [str(tick) for tick in ticks])
        axis.minorticks_off()
        _scale(axis.yaxis)
        axis.legend(frameon=False)
    save_figure(figure, path)


def _scale(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2, 5, 10, ..."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.3)


def _count(least: int) -> Any:
    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: must be a whole number from {least} on")
        return int(text)

    return count


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m exp.bench",
        description="Speed and memory beside a peer's, measured in one run, interleaved.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    text = "rounds, 5 times as many at 48/48/24"
    add("--repetitions", type=_count(1), default=5, metavar="N", help=text)
    threads = os.cpu_count()
    add("--threads", type=_count(1), default=threads, metavar="N", help="processor threads")
    text = "data set of our steps; ETTh2 adds the time of its epoch"
    add("--data", default="demo", metavar="NAME", help=text)
    add("--d_model", type=_count(8), default=512, metavar="N", help="width")
    text = f"lengths to compare, of {', '.join(SETTINGS)}"
    default = list(SETTINGS)
    add("--settings", nargs="+", choices=SETTINGS, default=default, metavar="LENGTHS", help=text)
    text = "input lengths at which ProbSparse and full attention are timed, in half as many rounds"
    default = list(GROWTH)
    add("--growth", type=_count(LABEL_LEN), nargs="*", default=default, metavar="N", help=text)
    out = Path("results/bench")
    add("--out", type=Path, default=out, metavar="FOLDER", help="where the files go")
    return parser


def main(words: Sequence[str]) -> int:
    """Measure, print the tables, and write CSV files and a plot."""
    asked = build_parser().parse_args(words)
    if not importlib.util.find_spec("neuralforecast"):
        print("note: without neuralforecast (requirements-bench.txt) there is nothing to compare")
    try:
        measure(asked)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def measure(asked: argparse.Namespace) -> None:
    """Do what the flags ask for; what has been measured is written at once."""
    machine = _machine(asked)
    rows: list[dict[str, Any]] = []
    for name in asked.settings:
        rows += compare(name, asked)
        _write(asked.out / "steps.csv", rows, machine)
    steps = pd.DataFrame(rows)
    print(steps.to_string(index=False, na_rep="-", float_format="%.3g"))
    lengths = pd.DataFrame(growth(asked))
    if len(lengths):
        print(lengths.to_string(index=False, float_format="%.3g"))
        _write(asked.out / "growth.csv", lengths.to_dict("records"), machine)
    plot(steps, lengths, asked.out / "bench.png")
    print(f"wrote steps.csv,{' growth.csv,' if len(lengths) else ''} bench.png in {asked.out}")


def _machine(asked: argparse.Namespace) -> dict[str, Any]:
    """Return what the numbers depend on beside the code."""
    found = describe(torch.device("cpu"))
    machine = {name: found[name] for name in ("processor", "cores", "torch")}
    if importlib.util.find_spec("neuralforecast"):
        machine["neuralforecast"] = importlib.metadata.version("neuralforecast")
    machine["git_commit"] = f"{found['git_commit']}{'+' if found['git_dirty'] else ''}"
    return machine | {
        name: getattr(asked, name) for name in ("data", "d_model", "threads", "repetitions")
    }


def _write(path: Path, rows: list[dict[str, Any]], machine: dict[str, Any]) -> None:
    buffer = io.StringIO()
    buffer.write("".join(f"# {key}: {value}\n" for key, value in machine.items()))
    pd.DataFrame(rows).to_csv(buffer, index=False, float_format="%.4g")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue().encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
