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
from typing import Any

import torch

from exp.config import Options
from exp.grid import Run
from utils.files import UserError, advice

ROOT = Path(__file__).resolve().parent.parent
POLL = 0.2  # seconds
RUN_MEMORY = 4 * 10**9  # bytes that a run may need, of the machine's or of the GPU's memory
Ended = list[tuple[str, str | None]]  # names of runs, and the error each ended with


def run_to_end(
    run: Run, threads: int, folder: Path, variables: Mapping[str, str], stop: Event | None = None
) -> str | None:
    """Carry out one run in a process of its own and return its error, or None.

    Relative paths start from `folder`; --threads in the run's own flags wins; `variables` join this
    process's environment. `stop` ends the process; so does an exception, as Ray's cancellation.
    """
    threads, log = run.options.threads or threads, folder / run.log
    command = [sys.executable, str(ROOT / "main_informer.py"), *run.flags]
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
    last = log.read_text(errors="replace").strip().split("\n")[-1] or f"exit code {code}"
    return re.sub(f"^((error|failed|{re.escape(run.name)}): )+", "", last) if code else None


class Local:
    """Processes of this machine: its GPUs in turn where a run may take one, and its cores.

    There are `jobs` runs at a time; without it `runs_per_gpu` on each GPU (auto: what memory and
    cores allow, at most 8), without GPUs one a core as the memory allows: one-thread runs side by
    side get more done than one on all cores.
    """

    def __init__(self, options: Options, jobs: int | None = None, runs_per_gpu: str = "1") -> None:
        if jobs is not None and jobs < 1:
            raise UserError(f"--jobs {jobs}: must be at least 1")
        if runs_per_gpu != "auto" and not (runs_per_gpu.isdecimal() and int(runs_per_gpu)):
            raise UserError(f"--runs_per_gpu {runs_per_gpu}: must be auto or at least 1")
        affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        free = options.device in ("auto", "cuda") and options.gpu is None
        free = free and options.use_gpu is not False  # to take whichever GPU
        count = torch.cuda.device_count() if free else 0
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",")[:count] if visible else map(str, range(count))
        gpus = [{"CUDA_VISIBLE_DEVICES": name} for name in names] or [{}]
        if not count:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            each = min(cores, memory // RUN_MEMORY)
        elif runs_per_gpu == "auto":
            memory = torch.cuda.get_device_properties(0).total_memory
            each = min(8, cores // count, memory // RUN_MEMORY)
        else:
            each = int(runs_per_gpu)
        number = jobs or max(1, each) * len(gpus)
        self.threads = options.threads or max(1, cores // number)  # of a run
        # the environment variables of each run side by side
        self.slots = [gpus[i % len(gpus)] for i in range(number)]

    def carry_out(self, runs: Sequence[Run]) -> Generator[Ended]:
        """Start a run whenever a slot is free."""
        folder, stop, free = Path.cwd(), Event(), deque(self.slots)

        def carry_out_one(run: Run) -> str | None:
            slot = free.popleft()  # there are as many slots as threads
            try:
                return run_to_end(run, self.threads, folder, slot, stop)
            finally:
                free.append(slot)

        with ThreadPoolExecutor(len(self.slots)) as pool:
            left = {pool.submit(carry_out_one, run): run.name for run in runs}
            try:
                while left:
                    ended, _ = wait(left, POLL)
                    yield [(left.pop(future), future.result()) for future in ended]
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class OnRay:
    """A Ray cluster whose machines all see the project, the data and the results."""

    address: str  # auto finds a running one, local starts one here for the while
    gpus_per_run: float | None  # fractions allowed; None for one where there are any
    threads: int  # of a run; Ray counts them as processors
    slots: tuple[()] = ()  # Ray alone knows how many fit

    def carry_out(self, runs: Sequence[Run]) -> Generator[Ended]:
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
        left = {task.remote(run, self.threads, Path.cwd(), {}): run.name for run in runs}
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
