"""SIGTERM and SIGINT end a run at the next step, where its state is whole."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The run was asked to stop, and has stopped at a resumable point."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Stop:
    """Remembers that a signal came, until the run looks."""

    number: int | None = None

    def note(self, number: int, _frame: FrameType | None) -> None:
        """Remember a signal (a signal handler)."""
        self.number = number

    def check(self) -> None:
        """Raise Interrupted where the run can stop, if a signal came since it began."""
        if self.number is not None:
            raise Interrupted(self.number)


@contextmanager
def signals_noted() -> Iterator[Stop]:
    """Note SIGTERM and SIGINT instead of dying in the middle of a step."""
    stop = Stop()
    before = {n: signal.signal(n, stop.note) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
