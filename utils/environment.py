"""What a run ran on: recorded beside its numbers."""

import os
import platform
import re
import resource
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import pandas
import torch

HERE = Path(__file__).resolve().parent


def environment(device: torch.device) -> dict[str, Any]:
    """Return processor, threads, device, versions and the state of the code."""
    changes = ask_git(HERE, "status", "--porcelain", "--untracked-files=no")
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        **_cuda(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "pandas": pandas.__version__,
        "system": platform.platform(),
        "git_commit": ask_git(HERE, "rev-parse", "HEAD"),
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
        (kilobytes,) = re.findall(r"VmHWM:\s*(\d+)", status.read_text(encoding="utf-8"))
        return int(kilobytes) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _cuda(device: torch.device) -> dict[str, Any]:
    """Return what a GPU's numbers depend on beside torch; nothing on a processor."""
    if device.type != "cuda":
        return {}
    driver = Path("/proc/driver/nvidia/version")
    words = driver.read_text(encoding="utf-8") if driver.exists() else ""
    found = re.search(r"\s(\d+\.\d+(\.\d+)*)\s", words)
    matrices, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    return {
        "driver": found[1] if found else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32": {"matmul": matrices.allow_tf32, "convolution": convolutions.allow_tf32},
    }


def _processor() -> str:
    """Return the processor's name, and its instructions that move speed and last digits."""
    able = torch.cpu.get_capabilities()
    bf16 = ", bf16" if any(there for name, there in able.items() if "bf16" in name) else ""
    name = able.get("cpu_name") or platform.processor()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}{bf16})"


def ask_git(folder: Path, *args: str) -> str | None:
    """Ask git about a folder; None where it has no answer, or is not there."""
    command = ["git", "-C", str(folder), *args]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
