"""Progress on a terminal as a bar, elsewhere as plain lines."""

import time

from tqdm import tqdm

LINE_SECONDS = 60.0


class Meter:
    """Shows the steps of one epoch or of one evaluation, with the time left."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label, self.total, self.done, self.first = label, total, done, done
        self.bar = tqdm(total=total, initial=done, desc=label, leave=False, disable=None)
        self.begun = self.shown = time.monotonic()

    def step(self, note: str = "") -> None:
        """Count one step; a note is what the numbers now are."""
        self.done += 1
        self.bar.update()
        if note:
            self.bar.set_postfix_str(note)
        now = time.monotonic()
        if self.bar.disable and now - self.shown >= LINE_SECONDS:
            self.shown = now
            left = (now - self.begun) / (self.done - self.first) * (self.total - self.done)
            step = f"{self.label}, step {self.done}/{self.total}"
            print(f"{step}: {duration(left)} left {note}")

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()


def duration(seconds: float) -> str:
    """Return a time as a person says it: 42 s, 3.5 min, 2.1 h, 2.5 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
