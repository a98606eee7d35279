"""Where runs are carried out beside each other: processes of this machine, or a Ray cluster.

Each run is a process of its own, with its own log: a crash, or a kill for lack of memory, ends that
run alone. `carry_out` gives every POLL seconds the runs that have ended since; closing it stops the
others at a resumable point.

A sweep that is killed outright leaves its processes alive, and they finish. In a restarted sweep
the process of the same run waits for that (--wait): no run is done twice, and no more at a time.
"""

import logging
import os
import re
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from threading import Event
from typing import Any, NamedTuple

import torch

from exp.config import Options
from exp.cost import apart
from utils.files import UserError, advice

ROOT = Path(__file__).resolve().parent.parent
POLL = 0.2  # seconds
PROCESS_MEMORY = 0.5e9  # bytes that a process takes before it has a model, or its CUDA context does
SPARE = 1.3  # times the counted peak of a step: allocators leave gaps, tests keep forecasts
Ended = list[tuple[str, str | None]]  # names of runs, and the error each ended with


class Job(NamedTuple):
    """What carries out one run: a command line of main_informer.py, and where its output goes."""

    name: str
    flags: tuple[str, ...]
    log: Path
    threads: int | None  # of its own --threads

    def progress(self, since: float) -> tuple[str, float]:
        """Say where the run is, and what share of it is done, by a log written `since` then."""
        if not self.log.exists() or self.log.stat().st_mtime < since:
            return "", 0.0
        lines = self.log.read_text(encoding="utf-8", errors="replace")
        found = re.findall(r"\bepoch (\d+)/(\d+)(?:, step (\d+)/(\d+))?", lines)
        epoch, epochs, step, steps = (int(n or 0) for n in found[-1]) if found else (0, 1, 0, 0)
        done = epoch - 1 + step / steps if steps else epoch  # epochs
        return f"epoch {min(int(done) + 1, epochs)}/{epochs}" if found else "begins", done / epochs


def run_to_end(
    job: Job, threads: int, folder: Path, variables: Mapping[str, str], stop: Event | None = None
) -> str | None:
    """Carry out one run in a process of its own and return its error, or None.

    Relative paths start from `folder`; --threads in the run's own flags wins; `variables` join this
    process's environment. `stop` ends the process; so does an exception, as Ray's cancellation.
    """
    threads, log = job.threads or threads, folder / job.log
    command = [sys.executable, str(ROOT / "main_informer.py"), *job.flags]
    command += ["--threads", str(threads)]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), **variables}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("ab")
    except OSError as error:
        raise UserError(f"{log}: cannot be written, {advice(error)}") from error
    with file:
        process = Popen(command, cwd=folder, env=env, stdin=DEVNULL, stdout=file, stderr=STDOUT)
    try:
        while process.poll() is None and not (stop and stop.is_set()):
            time.sleep(POLL)  # unlike process.wait(), it lets Ray's cancellation through
    finally:
        process.terminate()
        code = process.wait()
    if code < 0:
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().split("\n")
    last = lines[-1] or f"exit code {code}"
    return re.sub(f"^((error|failed|{re.escape(job.name)}): )+", "", last) if code else None


class Local:
    """Processes of this machine: its GPUs in turn where a run may take one, and its cores.

    There are `jobs` runs at a time; without it `runs_per_gpu` on each GPU (auto: what memory and
    cores allow, at most 8), without GPUs one a core as the memory allows: one-thread runs side by
    side get more done than one on all cores. `step_memory` is the counted peak of a run, in bytes.
    """

    def __init__(
        self, options: Options, jobs: int | None, runs_per_gpu: str, step_memory: int
    ) -> None:
        if jobs is not None and jobs < 1:
            raise UserError(f"--jobs {jobs}: must be at least 1")
        if runs_per_gpu != "auto" and not (runs_per_gpu.isdecimal() and int(runs_per_gpu)):
            raise UserError(f"--runs_per_gpu {runs_per_gpu}: must be auto or at least 1")
        affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        gpus, need = gpus_for(options), PROCESS_MEMORY + SPARE * step_memory
        if not gpus:
            each = min(cores, memory_limit() // need)
        elif runs_per_gpu == "auto":
            number = int(options.device.partition(":")[2] or options.gpu or 0)
            each = min(8, cores // len(gpus), apart(gpu_memory, number) // need)
        else:
            each = int(runs_per_gpu)
        number = jobs or max(1, int(each)) * max(1, len(gpus))
        self.threads = options.threads or max(1, cores // number)  # of a run
        # the environment variables of each run side by side
        self.slots = [gpus[i % len(gpus)] if gpus else {} for i in range(number)]

    def carry_out(self, jobs: Sequence[Job]) -> Generator[Ended]:
        """Start a run whenever a slot is free."""
        folder, stop, free = Path.cwd(), Event(), deque(self.slots)

        def carry_out_one(job: Job) -> str | None:
            slot = free.popleft()  # there are as many slots as threads
            try:
                return run_to_end(job, self.threads, folder, slot, stop)
            finally:
                free.append(slot)

        with ThreadPoolExecutor(len(self.slots)) as pool:
            left = {pool.submit(carry_out_one, job): job.name for job in jobs}
            try:
                while left:
                    ended, _ = wait(left, POLL)
                    yield [(left.pop(future), future.result()) for future in ended]
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)


def gpus_for(options: Options) -> list[dict[str, str]]:
    """List what gives a process each GPU that a run may take: variables, none where flags do."""
    count, name = torch.cuda.device_count(), options.device
    if not count or name == "cpu" or (name == "auto" and options.use_gpu is False):
        return []
    if name not in ("auto", "cuda") or options.gpu is not None:
        return [{}]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",")[:count] if visible else map(str, range(count))
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names]


def gpu_memory(number: int) -> int:
    """Ask the driver, which takes a CUDA context, for a GPU's memory in bytes."""
    return torch.cuda.get_device_properties(number).total_memory


def memory_limit(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory that processes may take: the machine's, or its container's."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in (groups / "memory.max", groups / "memory" / "memory.limit_in_bytes"):
        if file.is_file() and (text := file.read_text(encoding="utf-8").strip()).isdecimal():
            limits.append(int(text))  # else it is `max`
    return min(limits)


@dataclass(frozen=True)
class OnRay:
    """A Ray cluster whose machines all see the project, the data and the results."""

    address: str  # auto finds a running one, local starts one here for the while
    gpus_per_run: float | None  # fractions allowed; None for one where there are any
    threads: int  # of a run; Ray counts them as processors
    slots: tuple[()] = ()  # Ray alone knows how many fit

    def carry_out(self, jobs: Sequence[Job]) -> Generator[Ended]:
        """Submit all runs at once; Ray starts them as processors and GPUs get free.

        The run of a worker that is lost is started again elsewhere, and waits there if its old
        process is still alive. A UserError says that Ray is not installed, that no cluster answers,
        or that it has too little for a run.
        """
        ray = self._connect()
        have = ray.cluster_resources()
        gpus = min(1, have.get("GPU", 0)) if self.gpus_per_run is None else self.gpus_per_run
        for what, flag, need in (("CPU", "threads", self.threads), ("GPU", "gpus_per_run", gpus)):
            if need > have.get(what, 0):  # Ray would wait without end
                raise UserError(f"--{flag} {need:g}: the cluster has {have.get(what, 0):g} {what}s")
        task = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=3)(run_to_end)
        left = {task.remote(job, self.threads, Path.cwd(), {}): job.name for job in jobs}
        try:
            while left:
                ended, _ = ray.wait(list(left), num_returns=len(left), timeout=POLL)
                yield [(left.pop(ref), _result(ray, ref)) for ref in ended]
        finally:
            for ref in left:
                ray.cancel(ref)
            ray.wait(list(left), num_returns=len(left))  # until the processes have stopped
            ray.shutdown()

    def _connect(self) -> Any:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            import ray  # noqa: PLC0415 - optional
        except ImportError:
            hint = "pip install -r requirements-ray.txt"
            raise UserError(f"--engine ray: Ray is not installed; {hint}") from None
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
        quiet["runtime_env"] = {"env_vars": {"PYTHONPATH": str(ROOT)}}
        try:
            host, _, port = self.address.rpartition(":")
            if port.isdecimal():  # Ray itself would try a wrong address for minutes
                socket.create_connection((host.split("//")[-1], int(port)), timeout=10).close()
            ray.init(self.address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(
                f"--address {self.address}: no Ray cluster answers ({reason}); start one with "
                "`ray start --head`, or one for this sweep alone with --address local"
            ) from error
        signal.signal(signal.SIGTERM, handler)  # Ray puts its own, which exits at once
        return ray


def _result(ray: Any, ref: Any) -> str | None:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:  # the worker was lost once too often
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
