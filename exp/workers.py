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
import sys
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
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
RUN_MEMORY = 4e9  # bytes that a run on a processor is given: 3.5 GB at 720 input steps
Ended = list[tuple[str, str | None]]  # names of runs, and the error each ended with


def run_to_end(
    run: Run, threads: int, folder: Path, variables: Mapping[str, str], stop: Event | None = None
) -> str | None:
    """Carry out one run in a process of its own and return its error, or None.

    Relative paths start from `folder`; --threads in the run's own flags wins; `variables` join this
    process's environment. `stop` ends the process; so does an exception, as Ray's cancellation.
    """
    log, script = folder / run.log, str(ROOT / "main_informer.py")
    command = [sys.executable, script, "--threads", str(threads), *run.flags]
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
    return re.sub(f"^((error|failed|{re.escape(run.name)}): )+", "", last) if code else None


class Local:
    """Processes of this machine: its GPUs in turn where a run may take one, and its cores.

    There are `jobs` runs at a time; without it `runs_per_gpu` on each GPU, or without GPUs one a
    core as the memory allows: one-thread runs side by side get more done than one on all cores.
    """

    def __init__(self, options: Options, jobs: int | None, runs_per_gpu: int) -> None:
        affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        self.gpus = gpus_for(options)
        room = max(1, min(cores, int(memory_limit() // RUN_MEMORY)))
        self.side_by_side = jobs or (runs_per_gpu * len(self.gpus) if self.gpus else room)
        self.threads = options.threads or max(1, cores // self.side_by_side)  # of a run

    def carry_out(self, runs: Sequence[Run]) -> Generator[Ended]:
        """Start a run whenever there is room for one."""
        folder, stop, gpus = Path.cwd(), Event(), self.gpus or [{}]
        free = deque(gpus[i % len(gpus)] for i in range(self.side_by_side))

        def carry_out_one(run: Run) -> str | None:
            variables = free.popleft()  # there are as many as threads of the pool
            try:
                return run_to_end(run, self.threads, folder, variables, stop)
            finally:
                free.append(variables)

        with ThreadPoolExecutor(self.side_by_side) as pool:
            left = {pool.submit(carry_out_one, run): run.name for run in runs}
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


def memory_limit(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory that processes may take: the machine's, or its container's."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in (groups / "memory.max", groups / "memory" / "memory.limit_in_bytes"):
        if file.is_file() and (text := file.read_text(encoding="utf-8").strip()).isdecimal():
            limits.append(int(text))  # else it is `max`
    return min(limits)


class OnRay:
    """A Ray cluster (RAY_ADDRESS) whose machines all see the project, the data and the results.

    A UserError says that Ray is not installed, that no cluster answers, or that it is too small.
    """

    side_by_side = 1  # for a plan: Ray alone knows how many fit

    def __init__(self, options: Options, runs_per_gpu: int) -> None:
        self.gpus = 0.0 if options.device == "cpu" else 1 / runs_per_gpu  # of a run
        self.threads = options.threads or 1  # of a run; Ray counts them as processors

    def carry_out(self, runs: Sequence[Run]) -> Generator[Ended]:
        """Submit all runs at once; Ray starts them as processors and GPUs get free.

        The run of a worker that is lost is started again elsewhere, and waits there if its old
        process is still alive.
        """
        ray = _connected_ray()
        have = ray.cluster_resources()
        if self.threads > have.get("CPU", 0):  # Ray would wait without end
            raise UserError(
                f"--threads {self.threads}: the cluster has {have.get('CPU', 0):g} CPUs"
            )
        gpus = self.gpus if have.get("GPU") else 0
        task = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=3)(run_to_end)
        left = {task.remote(run, self.threads, Path.cwd(), {}): run.name for run in runs}
        try:
            while left:
                ended, _ = ray.wait(list(left), num_returns=len(left), timeout=POLL)
                yield [(left.pop(ref), _error(ray, ref)) for ref in ended]
        finally:
            for ref in left:
                ray.cancel(ref)
            ray.wait(list(left), num_returns=len(left))  # until the processes have stopped
            ray.shutdown()


def _connected_ray() -> Any:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        import ray  # noqa: PLC0415 - optional

        paths = {"env_vars": {"PYTHONPATH": str(ROOT)}}
        ray.init("auto", log_to_driver=False, logging_level=logging.WARNING, runtime_env=paths)
    except ImportError:
        hint = "pip install -r requirements-ray.txt"
        raise UserError(f"--engine ray: Ray is not installed; {hint}") from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        hint = "start one with `ray start --head`, name it with RAY_ADDRESS"
        raise UserError(f"--engine ray: no cluster answers ({reason}); {hint}") from error
    signal.signal(signal.SIGTERM, handler)  # Ray puts its own, which exits at once
    return ray


def _error(ray: Any, ref: Any) -> str | None:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:  # the worker was lost once too often
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
