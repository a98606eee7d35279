"""What a sweep has before it: where each run stands, the hours and the disk still needed.

Hours follow from the operations that the lengths imply, at the pace of those runs of the grid that
have finished, or before the first of one small training step that is timed here.
"""

import dataclasses
import itertools
import math
import shutil
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from data.data_loader import column_counts, window_counts
from data.registry import DATASETS
from exp.config import Config, Options
from exp.exp_informer import Exp_Informer
from exp.grid import Run
from exp.run import step_seconds
from models import MODELS
from utils.files import UserError
from utils.progress import duration

STATUSES = ("done", "cut off", "failed", "new")
REFERENCE = 70e9  # multiply-adds a second on one thread of an AMD EPYC with AVX-512, fp32
BF16 = 1.8  # times faster, with instructions for it
SOFTMAX = 800  # multiply-adds that take as long as softmax and dropout of one score
STEP_SECONDS = 0.01  # what a step of any size costs


class State(NamedTuple):
    """Where a run stands: one of STATUSES, a failed run's error, what a finished one took."""

    status: str
    error: str = ""
    seconds: float = 0.0
    epochs: int = 0


def state_of(run: Run) -> State:
    """Read from its folder where a run stands; with --force every run is new."""
    if run.options.force:
        return State("new")
    try:
        metrics = run.record.metrics()
    except UserError as error:
        return State("failed", str(error))
    if metrics is None:
        return State("cut off" if (run.record.folder / "config.json").exists() else "new")
    if metrics["status"] == "failed":
        return State("failed", metrics["error"])
    return State("done", "", metrics["wall_seconds"], metrics["epochs"])


def operations(config: Config, columns: int) -> float:
    """Count the multiply-adds of one window's forward pass, by the layers that Informer has."""
    d, ff, decoded = config.d_model, config.d_ff, config.label_len + config.pred_len
    all_scores = config.attn == "full" or "attn" in MODELS[config.model].unused

    def scores(queries: int, keys: int, full: bool = all_scores) -> float:
        chosen = queries if full else min(queries, config.factor * math.ceil(math.log(keys)))
        return queries * keys * d + chosen * keys * (d + SOFTMAX * config.n_heads)

    total, memory = 3.0 * (config.seq_len + decoded) * d * columns, 0
    for i, depth in enumerate(config.depths):
        length = config.seq_len // 2**i
        for layer in range(depth):
            total += length * (4 * d * d + 2 * d * ff) + scores(length, length)
            if config.distils and layer < depth - 1:
                total += 3 * length * d * d
                length = -(-length // 2)
        memory += length
    for layer in range(config.d_layers):
        kept = decoded if layer < config.d_layers - 1 else config.pred_len
        total += 4 * decoded * d * d + scores(decoded, decoded) + 2 * kept * d * ff
        total += 2 * (kept + memory) * d * d + scores(kept, memory, full=True)
    return total


def window_seconds(config: Config, columns: int, threads: int) -> float:
    """Estimate the time of one window's forward pass at REFERENCE; backward takes twice as long."""
    rate = REFERENCE * threads * (BF16 if config.amp == "bf16" else 1.0)
    return operations(config, columns) / rate + STEP_SECONDS / 3 / config.batch_size


def expected_seconds(run: Run, epochs: int, threads: int) -> float:
    """Estimate the time of a run at REFERENCE."""
    config = run.config
    train, val, test = window_counts(*run.place, config.seq_len, config.pred_len)
    columns, _ = column_counts(*run.place, config.features, config.cols)
    forward = epochs * (3 * train + val) + test  # windows
    return forward * window_seconds(config, columns, threads)


def timed_pace(run: Run, threads: int) -> float:
    """Time a small step of a run's model here: how many times longer than at REFERENCE it takes."""
    demo: dict[str, Any] = {"data": "demo", "target": DATASETS["demo"].target, "features": "S"}
    demo |= {"cols": None, "freq": "h", "amp": "off"}
    size = {"seq_len": 96, "label_len": 48, "pred_len": 24}
    batch = min(run.config.batch_size, 8)  # little memory: this process lives as long as the sweep
    config = dataclasses.replace(run.config, **demo, **size, batch_size=batch)
    exp = Exp_Informer(config, Options(threads=threads))
    return step_seconds(exp) / (3 * batch * window_seconds(config, 1, threads))


def weight_bytes(config: Config) -> int:
    """Estimate what a run's weights take: layers with d_ff = 4 d_model, two tables of positions."""
    d = config.d_model
    return 4 * d * (d * (15 * config.e_layers + 16 * config.d_layers - 3) + 2 * 5000)


class Plan:
    """A sweep's runs, or a shard's, their states, and what those to do will cost."""

    def __init__(self, runs: Sequence[Run], threads: int) -> None:
        self.runs, self.threads = runs, threads
        self.states = states = {run.name: state_of(run) for run in runs}
        self.to_do = [run for run in runs if states[run.name].status in ("cut off", "new")]
        done = [(run, s) for run in runs if (s := states[run.name]).status == "done"]
        self.paces = [s.seconds / expected_seconds(run, s.epochs, threads) for run, s in done]
        self.timed = bool(self.to_do) and not self.paces
        if self.timed:
            self.paces = [timed_pace(self.to_do[0], threads)]
        pace = statistics.median(self.paces or [1.0])
        self.seconds = {  # of each run to do, if it does not stop early
            run.name: pace * expected_seconds(run, run.config.train_epochs, threads)
            for run in self.to_do
        }

    def show(self, side_by_side: int) -> None:
        """Print a line a setting, then the sums; 0 runs side by side where that is not known."""
        rows = []
        for _, same in itertools.groupby(self.runs, lambda run: run.words):
            group = list(same)
            each = [duration(self.seconds[run.name]) for run in group if run.name in self.seconds]
            rows.append([*self._counts(_title(group[0]), group), *(each[:1] or "-")])
        rows.append(self._counts("total", self.runs))
        print(tabulate(rows, ["setting", "runs", *STATUSES, "time each"], tablefmt="plain"))
        if not self.to_do:
            return
        left = duration(sum(self.seconds.values()) / max(1, side_by_side))
        source = "one small step timed here" if self.timed else f"{len(self.paces)} finished runs"
        print(
            f"time left: about {left}, less with early stopping (runs at a time: "
            f"{side_by_side or 'counted as 1'}, threads per run: {self.threads}; from {source})"
        )
        kept = [run.config for run in self.to_do if run.options.weights == "keep"]
        needed, options = sum(map(weight_bytes, kept)), self.to_do[0].options
        folder = (options.checkpoints or options.results).absolute()
        free = shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.is_dir())).free
        print(f"disk: about {needed / 1e9:.2g} GB of weights, {free / 1e9:.3g} GB are free")
        if needed > free:
            print("warning: not enough disk; --weights drop keeps no weights")

    def _counts(self, title: str, group: Sequence[Run]) -> list[Any]:
        count = Counter(self.states[run.name].status for run in group)
        return [title, len(group), *(count[status] for status in STATUSES)]


def _title(run: Run) -> str:
    c = run.config
    data = c.data if c.data in DATASETS else f"{Path(run.options.data_path).stem} {c.target}"
    return f"{c.model} {data} {c.features} {c.seq_len}-{c.label_len}-{c.pred_len}"
