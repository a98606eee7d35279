"""Speed and memory beside a peer's, measured in one run, interleaved: python -m exp.bench."""

import argparse
import importlib.util
import io
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib import pyplot as plt

from exp.environment import describe
from exp.forecasts import save_figure
from utils.errors import UserError
from utils.files import write_atomic

# Lengths, ProbSparse factor, and rounds for each repetition asked for: short steps vary more.
SETTINGS = {"48/48/24": ((48, 48, 24), 3, 5), "720/168/24": ((720, 168, 24), 5, 1)}
CONTENDERS = {
    "this project, fp32": ["own"],
    "this project, bf16": ["own", "--amp", "bf16"],
    "neuralforecast 3.3.0, fp32": ["peer"],
}
PEER = "neuralforecast 3.3.0, fp32"
EPOCH_STEPS = 267  # of ETTh2 at 48/48/24, batch 32
GROWTH = (96, 192, 384, 720, 1440)


class Worker:
    """A contender's process."""

    def __init__(self, words: list[str], threads: int) -> None:
        command = [sys.executable, "-m", "exp.bench_worker", *words, "--threads", str(threads)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            text=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        while (line := self.output.readline()) != "ready\n":  # libraries may greet first
            if not line:
                _, errors = self.process.communicate()
                raise UserError(f"{' '.join(words)}: did not start: {errors.strip()[-300:]}")

    def ask(self, what: str) -> float:
        """Have something done and return the answer: seconds, or MB."""
        self.input.write(f"{what}\n")
        self.input.flush()
        return float(self.output.readline())

    def close(self) -> float:
        """End the process and return its peak memory in MB."""
        peak = self.ask("memory")
        self.process.communicate()
        return peak


def compare(name: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the contenders' training steps in turn, one step each a round.

    Args:
        name: one of SETTINGS.
        asked: repetitions, threads, data, d_model.

    Returns:
        One row a contender: seconds a step (median, min, max), how many times faster than the peer
        (median over rounds), peak memory, share of the data pipeline, and the time of an epoch
        with validation in steps of the peer.
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
    for repetition in range(asked.repetitions * rounds + 1):
        for key, worker in workers.items():
            seconds = worker.ask("step")
            if repetition:  # the first warms up
                times[key].append(seconds)
    peer = statistics.median(times[PEER]) if PEER in times else None
    return [
        {
            "setting": name,
            "contender": key,
            **_spread(times[key]),
            "times_faster": _ratio(times, key),
            **_own_parts(key, worker, times[key], peer if lengths[0] == 48 else None),
            "peak_memory_mb": worker.close(),
        }
        for key, worker in workers.items()
    ]


def _spread(seconds: list[float]) -> dict[str, float]:
    return {
        "step_seconds": statistics.median(seconds),
        "step_min": min(seconds),
        "step_max": max(seconds),
    }


def _ratio(times: dict[str, list[float]], key: str) -> float | None:
    """Return the median over rounds of the peer's time by the contender's."""
    if PEER not in times:
        return None
    return statistics.median(a / b for a, b in zip(times[PEER], times[key], strict=True))


def _own_parts(
    key: str, worker: Worker, steps: list[float], peer: float | None
) -> dict[str, float | None]:
    """Time the data pipeline, and where the peer was timed an epoch, which only ours has."""
    if key == PEER:
        return {"data_share": None, "epoch_in_peer_steps": None}
    batch = statistics.median(worker.ask("batch") for _ in range(20))
    step = statistics.median(steps)
    epoch = (EPOCH_STEPS * step + worker.ask("validate")) / peer if peer else None
    return {"data_share": batch / step, "epoch_in_peer_steps": epoch}


def growth(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Time one process for each input length and attention: seconds a step, peak memory."""
    rows = []
    for attn in ("prob", "full"):
        for seq_len in asked.growth:
            words = ["own", "--lengths", str(seq_len), "48", "24", "--attn", attn]
            words += ["--data", asked.data, "--d_model", str(asked.d_model)]
            worker = Worker(words, asked.threads)
            worker.ask("step")
            steps = [worker.ask("step") for _ in range(max(1, asked.repetitions // 2))]
            row = {"attn": attn, "seq_len": seq_len, **_spread(steps)}
            rows.append({**row, "peak_memory_mb": worker.close()})
            print(f"{attn} {seq_len}: {row['step_seconds']:.2f} s", flush=True)
    return rows


def plot(steps: pd.DataFrame, lengths: pd.DataFrame, path: Path) -> None:
    """Draw step times of the contenders, and growth with the input length."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    colours = dict(zip(CONTENDERS, ("#0072B2", "#56B4E9", "#999999"), strict=True))
    labels = []
    for place, row in enumerate(steps.to_dict("records")):
        low, high = row["step_seconds"] - row["step_min"], row["step_max"] - row["step_seconds"]
        colour = colours[row["contender"]]
        axes[0].barh(place, row["step_seconds"], color=colour, xerr=[[low], [high]], capsize=2)
        labels.append(f"{row['setting']}\n{row['contender']}")
    axes[0].set_yticks(range(len(labels)), labels, fontsize="x-small")
    axes[0].invert_yaxis()
    axes[0].set(xscale="log", xlabel="seconds a training step", title="median, min to max")
    panels = {"step_seconds": "seconds a training step", "peak_memory_mb": "peak memory, MB"}
    for axis, (column, label) in zip(axes[1:], panels.items(), strict=True):
        for attn, style in (("prob", "o-"), ("full", "s--")):
            part = lengths[lengths["attn"] == attn]
            name = "ProbSparse" if attn == "prob" else "full"
            axis.plot(part["seq_len"], part[column], style, label=name)
        axis.set(xlabel="input length, steps", ylabel=label, xscale="log", yscale="log")
        axis.legend(frameon=False)
    save_figure(figure, path)


def main(words: list[str]) -> int:
    """Measure, print the tables, and write CSV files and a plot."""
    parser = argparse.ArgumentParser(prog="exp.bench", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(all cores)")
    parser.add_argument("--data", default="demo", help="data set of our steps (default: demo)")
    parser.add_argument("--d_model", type=int, default=512, help="width (default: 512)")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), help="lengths to compare")
    parser.add_argument(
        "--growth", type=int, nargs="*", default=GROWTH, help="input lengths; none keeps the file"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/bench"), help="folder of the files")
    asked = parser.parse_args(words)
    if unknown := set(asked.settings) - set(SETTINGS):
        parser.error(f"--settings {min(unknown)}: one of {', '.join(SETTINGS)}")
    try:
        return measure(asked)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def measure(asked: argparse.Namespace) -> int:
    """Do what the flags ask for."""
    machine = describe(torch.device("cpu"))
    steps = pd.DataFrame([row for name in asked.settings for row in compare(name, asked)])
    print(steps.to_string(index=False, na_rep="-", float_format="%.3g"))
    asked.out.mkdir(parents=True, exist_ok=True)
    _write(asked.out / "steps.csv", steps, machine)
    path = asked.out / "growth.csv"
    if asked.growth:
        lengths = pd.DataFrame(growth(asked))
        print(lengths.to_string(index=False, float_format="%.3g"))
        _write(path, lengths, machine)
    if path.exists():
        plot(steps, pd.read_csv(path, comment="#"), asked.out / "bench.png")
    print(f"wrote {', '.join(sorted(file.name for file in asked.out.iterdir()))} in {asked.out}")
    return 0


def _write(path: Path, frame: pd.DataFrame, machine: dict[str, Any]) -> None:
    buffer = io.StringIO()
    keys = ("processor", "cores", "torch", "git_commit")
    buffer.write("".join(f"# {key}: {machine[key]}\n" for key in keys))
    frame.to_csv(buffer, index=False, float_format="%.4g")
    write_atomic(path, buffer.getvalue().encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
