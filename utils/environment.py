"""What a run ran on: recorded beside its numbers."""

import os
import platform
import re
import resource
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import pandas
import torch

from utils import git

HERE = Path(__file__).resolve().parent


def describe(device: torch.device) -> dict[str, Any]:
    """Return processor, threads, device, versions and the state of the code."""
    changes = git.ask(HERE, "status", "--porcelain", "--untracked-files=no")
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pandas": pandas.__version__,
        "system": platform.platform(),
        "git_commit": git.ask(HERE, "rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
        "folder": str(Path.cwd()),
        "command": sys.argv,
    }


def peak_memory_mb(device: torch.device) -> float:
    """Return the process's peak memory so far in MB: resident, or on the GPU where it runs."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage starts from the peak of the parent process
        (kilobytes,) = re.findall(r"VmHWM:\s*(\d+)", status.read_text())
        return int(kilobytes) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _processor() -> str:
    """Return the processor's name, and its instructions that move speed and last digits."""
    able = torch.cpu.get_capabilities()
    bf16 = ", bf16" if any(there for name, there in able.items() if "bf16" in name) else ""
    name = able.get("cpu_name") or platform.processor()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}{bf16})"
