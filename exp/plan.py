"""What a sweep has before it: where each run stands, the hours and the disk still needed."""

import dataclasses
import shutil
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exp.exp_informer import Exp_Informer
from exp.grid import Run
from exp.run import _time_one_step as time_one_step
from utils.errors import UserError
from utils.files import read_json
from utils.progress import duration

STATUSES = ("done", "cut off", "failed", "new")
PROBE_ROWS = 1024  # about as many input steps has the training step that is timed for an estimate


@dataclass(frozen=True)
class State:
    """Where a run stands.

    Args:
        status: one of STATUSES.
        error: of a failed run.
        seconds: that a finished run took.
        megabytes: of a finished run's folder.
    """

    status: str
    error: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0


def state_of(run: Run) -> State:
    """Read from its folder where a run stands; with --force every run is new."""
    if run.options.force:
        return State("new")
    folder = run.record.folder
    try:
        metrics = run.record.metrics()
    except UserError as error:
        return State("failed", str(error))
    if metrics is None:
        return State("cut off" if (folder / "config.json").exists() else "new")
    if metrics["status"] == "failed":
        return State("failed", metrics["error"])
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return State("done", seconds=metrics["wall_seconds"], megabytes=size / 1e6)


def share_done(run: Run) -> float:
    """Return the share of its epochs that an unfinished run has behind it."""
    try:
        history = read_json(run.record.folder / "history.json")
    except (FileNotFoundError, UserError):
        return 0.0  # the run writes the file anew; only the time left is told less well
    return len(history["epochs"]) / run.config.train_epochs


class Plan:
    """A sweep's runs, their states, and what those to do will cost.

    Args:
        runs: of the sweep, or of its shard.
        threads: of a run.
    """

    def __init__(self, runs: Sequence[Run], threads: int) -> None:
        self.runs, self.threads = runs, threads
        self.states = {run.name: state_of(run) for run in runs}
        self.to_do = [r for r in runs if self.states[r.name].status in ("cut off", "new")]
        self.settings: dict[tuple[str, ...], list[Run]] = {}
        for run in runs:
            self.settings.setdefault(run.words, []).append(run)
        to_do = dict.fromkeys(run.words for run in self.to_do)
        costs = {words: self._cost(self.settings[words]) for words in to_do}
        self.sources = Counter(source for _, _, source in costs.values())
        self.seconds = {run.name: costs[run.words][0] for run in self.to_do}  # from scratch
        self.megabytes = sum(costs[run.words][1] for run in self.to_do)

    def _cost(self, group: Sequence[Run]) -> tuple[float, float, str]:
        """Return seconds and megabytes of one run of a setting, and how they are known."""
        done = [state for run in group if (state := self.states[run.name]).status == "done"]
        if done:
            seconds = statistics.fmean(state.seconds for state in done)
            return seconds, statistics.fmean(state.megabytes for state in done), "measured"
        run = group[0]
        batch = max(1, min(run.config.batch_size, PROBE_ROWS // run.config.seq_len))
        config = dataclasses.replace(run.config, batch_size=batch, lip_coef=0.0)
        options = dataclasses.replace(run.options, threads=run.options.threads or self.threads)
        exp = Exp_Informer(config, options)
        train, val, test = len(exp.data.train), len(exp.data.val), len(exp.data.test)
        # a training step is forward and twice as much backward; an evaluation is forward alone
        windows = config.train_epochs * (train + val / 3) + test / 3
        weights = sum(tensor.nbytes for tensor in exp.model.state_dict().values())
        kept = weights / 1e6 if options.weights == "keep" else 0.0
        step = min(time_one_step(exp) for _ in range(2))
        return windows * step / batch, kept, "estimated from a small step"

    @property
    def seconds_left(self) -> float:
        """Computing time left, one run after the other."""
        return sum(self.seconds[run.name] * (1 - share_done(run)) for run in self.to_do)

    def show(self, at_a_time: int | None) -> None:
        """Print a line a setting, then the sums.

        Args:
            at_a_time: runs that go on side by side; None where that is not known.
        """
        titles = {words: _title(group[0]) for words, group in self.settings.items()}
        width = max(map(len, titles.values()), default=0)
        heads = "".join(f"{status:>9}" for status in STATUSES)
        print(f"{'setting':{width}} {'runs':>6}{heads}  time each")
        for words, group in self.settings.items():
            each = [self.seconds[run.name] for run in group if run.name in self.seconds]
            shown = duration(each[0]) if each else "-"
            print(f"{titles[words]:{width}} {self._counts(group)}  {shown:>9}")
        print(f"{'in all':{width}} {self._counts(self.runs)}")
        if not self.to_do:
            return
        sources = ", ".join(f"{source}: {count}" for source, count in self.sources.items())
        hours = duration(self.seconds_left / (at_a_time or 1))
        print(
            f"time left: about {hours}, less with early stopping (runs at a time: "
            f"{at_a_time or 'counted as 1'}, threads a run: {self.threads}; settings {sources})"
        )
        free = shutil.disk_usage(_existing(self.to_do[0].options.results)).free / 1e6
        print(
            f"disk: about {self.megabytes / 1e3:.2g} GB more, {free / 1e3:.3g} GB are free",
            flush=True,
        )
        if self.megabytes > free:
            print("warning: the disk will not do; --weights drop keeps no weights")

    def _counts(self, group: Sequence[Run]) -> str:
        count = Counter(self.states[run.name].status for run in group)
        return f"{len(group):6}" + "".join(f"{count[status]:9}" for status in STATUSES)


def _title(run: Run) -> str:
    c = run.config
    return f"{c.model} {c.data} {c.features} {c.seq_len}-{c.label_len}-{c.pred_len}"


def _existing(folder: Path) -> Path:
    """Return the nearest folder that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())
