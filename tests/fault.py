"""Run main_informer.py and die, by a real SIGKILL, at the point that FAULT names.

FAULT is a point and a count: `step:30` dies before the 30th training step, `checkpoint:2` inside
the second checkpoint's write with half of it on disk, `history:1` and `metrics:1` before that file
is written, `validation:6` in the sixth evaluation batch.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exp.exp_informer
import exp.record
from main_informer import main

point, count = os.environ["FAULT"].split(":")
left = int(count)


def die_at(last: Callable[..., bool]) -> None:
    """Count down when the condition holds, and die at zero."""
    global left  # noqa: PLW0603
    left -= bool(last())
    if left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner: Any, name: str, condition: Callable[..., bool]) -> None:
    """Have a function die before its work, when its arguments fulfil the condition."""
    real = getattr(owner, name)

    def function(*args: Any, **kwargs: Any) -> Any:
        die_at(lambda: condition(*args))
        return real(*args, **kwargs)

    setattr(owner, name, function)


real_fsync = os.fsync


def half_written(descriptor: int) -> None:
    """Lose half of a checkpoint, then die."""
    path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    if "state-" in path:
        if left == 1:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        die_at(lambda: True)
    real_fsync(descriptor)


if point == "step":
    wrap(exp.exp_informer.Exp_Informer, "train_step", lambda *_: True)
elif point == "checkpoint":
    os.fsync = half_written
elif point == "validation":
    wrap(
        exp.exp_informer.Exp_Informer, "_process_one_batch", lambda self, _: not self.model.training
    )
else:
    wrap(exp.record, "write_json", lambda path, _: path.name == f"{point}.json")

sys.exit(main(sys.argv[1:]))
