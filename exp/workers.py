"""Where runs are carried out beside each other: processes of this machine, or a Ray cluster.

Each run is a process of its own, with its own log: a crash, or a kill for lack of memory, ends that
run alone. `local` and `on_ray` give every POLL seconds the runs that have ended since, each with
its error or None; closing them stops the others at a resumable point.

A sweep that is killed outright leaves its processes alive, and they finish. In a restarted sweep
the process of the same run waits for that (--wait): no run is done twice, and no more at a time.
"""

import itertools
import logging
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from threading import Event
from typing import Any

import torch

from exp.config import Options
from exp.grid import Run
from utils.files import UserError, make_folder

ROOT = Path(__file__).resolve().parent.parent
POLL = 0.2  # seconds
RUN_MEMORY = 4e9  # bytes that a run on a processor is given: 3.5 GB at 720 input steps
Ended = Generator[list[tuple[str, str | None]]]


def run_to_end(
    run: Run, threads: int, folder: Path, flags: Sequence[str] = (), stop: Event | None = None
) -> str | None:
    """Carry out one run in a process of its own and return its error, or None.

    Relative paths start from `folder`; --threads in the run's own flags wins, and `flags` over
    those. `stop` ends the process; so does an exception, as Ray's cancellation.
    """
    log, script = folder / run.log, str(ROOT / "main_informer.py")
    command = [sys.executable, script, "--threads", str(threads), *run.flags, *flags]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    make_folder(log.parent)
    with log.open("ab") as file:
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
    last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
    last = re.sub(f"^((error|failed|{re.escape(run.name)}): )+", "", last)
    return (last or f"exit code {code}") if code else None


def places_for(options: Options, jobs: int | None, runs_per_gpu: int) -> list[tuple[str, ...]]:
    """List the flags for each run at a time: one of the GPUs in turn, none on a processor.

    They are `jobs`; without it `runs_per_gpu` on each GPU, or without GPUs one a core as the memory
    allows: one-thread runs side by side get more done than one on all cores.
    """
    gpus = [("--device", f"cuda:{i}") for i in range(torch.cuda.device_count())]
    if options.device == "cpu" or (options.device == "auto" and options.use_gpu is False):
        gpus = []
    elif options.device not in ("auto", "cuda") or options.gpu is not None:
        gpus = [()]  # the run's own flags say which
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    room = runs_per_gpu * len(gpus) or max(1, min(cores(), int(memory // RUN_MEMORY)))
    return list(itertools.islice(itertools.cycle(gpus or [()]), jobs or room))


def cores() -> int:
    """Count the processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def local(runs: Sequence[Run], threads: int, places: Sequence[Sequence[str]]) -> Ended:
    """Start a run of this machine whenever one of the places, each the flags for it, is free."""
    folder, stop, free = Path.cwd(), Event(), deque(places)

    def carry_out(run: Run) -> str | None:
        place = free.popleft()  # there are as many as threads of the pool
        try:
            return run_to_end(run, threads, folder, place, stop)
        finally:
            free.append(place)

    with ThreadPoolExecutor(len(places)) as pool:
        left = {pool.submit(carry_out, run): run.name for run in runs}
        try:
            while left:
                ended, _ = wait(left, POLL)
                yield [(left.pop(future), future.result()) for future in ended]
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def on_ray(runs: Sequence[Run], threads: int, gpu: float) -> Ended:
    """Submit all runs to the cluster of RAY_ADDRESS, which starts them as processors get free.

    All its machines see the project, the data and the results. Each run takes `gpu`, a share, if
    there are any. The run of a worker that is lost is started again elsewhere, and waits there if
    its old process is still alive. A UserError without Ray, a cluster, or enough processors.
    """
    ray = _connected_ray()
    have = ray.cluster_resources()
    if threads > (cpus := have.get("CPU", 0)):  # Ray would wait without end
        raise UserError(f"--threads {threads}: the cluster has {cpus:g} CPUs")
    needs = {"num_cpus": threads, "num_gpus": gpu if have.get("GPU") else 0}
    task = ray.remote(max_retries=3, **needs)(run_to_end)
    left = {task.remote(run, threads, Path.cwd()): run.name for run in runs}
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
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        hint = "pip install -r requirements-ray.txt, `ray start --head`, RAY_ADDRESS names it"
        raise UserError(f"--engine ray: no cluster answers ({reason}); {hint}") from error
    signal.signal(signal.SIGTERM, handler)  # Ray puts its own, which exits at once
    return ray


def _error(ray: Any, ref: Any) -> str | None:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:  # the worker was lost once too often
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
