"""Run main_informer.py and die, by a real SIGKILL or another signal, where FAULT says.

FAULT is a point, a count and perhaps a signal: `step:30` dies before the 30th training step,
`checkpoint:2` inside the second checkpoint's write with half of it on disk, `history:1` and
`metrics:1` before that file is written, `validation:6` in the sixth evaluation batch.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import exp.checkpoint
import exp.exp_informer
import exp.record
from exp.exp_informer import Exp_Informer
from main_informer import main

exp.checkpoint.SAVE_SECONDS, exp.exp_informer.CHECK_EVERY = 0, 4  # tiny runs save every 4 steps
point, count, *number = os.environ["FAULT"].split(":")
left = iter(range(int(count) - 1, -1, -1))


def is_state(descriptor: int) -> bool:
    return "state-" in str(Path(f"/proc/self/fd/{descriptor}").readlink())


FILE = (exp.record, "write_json", lambda path, _: path.name == f"{point}.json")
owner, name, here = {
    "step": (Exp_Informer, "train_step", lambda *_: True),
    "validation": (Exp_Informer, "_process_one_batch", lambda self, _: not self.model.training),
    "checkpoint": (os, "fsync", is_state),
}.get(point, FILE)
real = getattr(owner, name)


def function(*args: Any) -> Any:
    """Do what is wrapped, but die before the call that was counted down to."""
    if here(*args) and next(left, None) == 0:
        if point == "checkpoint":
            os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
        os.kill(os.getpid(), int(*number or [signal.SIGKILL]))
    return real(*args)


setattr(owner, name, function)
sys.exit(main(sys.argv[1:]))
