"""Where a sweep's runs are carried out: processes of this machine, or a Ray cluster.

Each run is a process of its own, `python main_informer.py ...` with its own log: a crash, or a
kill for lack of memory, ends that run alone. An engine gives an iterator: every POLL seconds the
runs that have ended since; closing it stops the others at a resumable point.

A sweep that is killed outright leaves its processes alive. They finish what they have, and hold the
lock of their run meanwhile: in a restarted sweep the process of the same run waits for that
(--wait), in its place, so that no run is done twice and no more are under way than before.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exp.flags import Options
from exp.grid import Run
from utils.errors import UserError
from utils.files import advice

ROOT = Path(__file__).resolve().parent.parent
POLL = 0.2  # seconds
RUN_MEMORY = 4 * 10**9  # bytes that a run may need: the paper's longest windows do
RETRIES = 3  # of a run whose Ray worker was lost
Ended = list[tuple[str, str | None]]  # names of runs, and the error each ended with


def start(run: Run, threads: int, folder: Path, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a run's process, its output appended to the run's log.

    Args:
        run: to be carried out.
        threads: of the processor; --threads in the run's own flags wins.
        folder: that relative paths start from.
        more: environment variables, beside those of this process.

    Raises:
        UserError: the log cannot be written.
    """
    threads = run.options.threads or threads
    log = folder / run.log
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("ab")
    except OSError as error:
        raise UserError(f"{log}: cannot be written, {advice(error)}") from error
    command = [sys.executable, str(ROOT / "main_informer.py"), *run.flags]
    with file:
        return subprocess.Popen(
            [*command, "--threads", str(threads)],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **more},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def verdict(run: Run, code: int, folder: Path) -> str | None:
    """Return what an exit code means: None for success, otherwise the error in one line."""
    if code == 0:
        return None
    if code < 0:
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    lines = (folder / run.log).read_text(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
    for prefix in ("error: ", "failed: ", f"{run.name}: "):
        last = last.removeprefix(prefix)
    return last


@dataclass(frozen=True)
class Local:
    """Processes of this machine.

    Args:
        places: the environment of each run that goes on at a time.
        threads: of a run.
    """

    places: Sequence[Mapping[str, str]]
    threads: int

    @classmethod
    def of(cls, options: Options, jobs: int | None) -> "Local":
        """Share this machine out: its GPUs in turn where a run may take one, and its cores.

        Args:
            options: which device, and how many threads, runs ask for.
            jobs: runs at a time; None for one a GPU, or without GPUs one a core as far as the
                memory goes: one-thread runs side by side get more done than one on all cores.
        """
        if jobs is not None and jobs < 1:
            raise UserError(f"--jobs {jobs}: must be at least 1")
        free = options.device == "auto" and options.use_gpu is not False and options.gpu is None
        count = torch.cuda.device_count() if free else 0
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = visible if len(visible) == count else [str(i) for i in range(count)]
        gpus = [{"CUDA_VISIBLE_DEVICES": name} for name in names] if count else [{}]
        places = jobs or count or max(1, min(cores(), memory() // RUN_MEMORY))
        return cls([gpus[i % len(gpus)] for i in range(places)], threads_of(options, places))

    @property
    def at_a_time(self) -> int:
        """How many runs go on at a time."""
        return len(self.places)

    def carry_out(self, runs: Sequence[Run]) -> Generator[Ended]:
        """Start a run whenever a place is free."""
        waiting, free, folder = deque(runs), deque(self.places), Path.cwd()
        active: list[tuple[Run, subprocess.Popen[bytes], Mapping[str, str]]] = []
        try:
            while waiting or active:
                while waiting and free:
                    run, place = waiting.popleft(), free.popleft()
                    active.append((run, start(run, self.threads, folder, place), place))
                time.sleep(POLL)
                ended = [entry for entry in active if entry[1].poll() is not None]
                active = [entry for entry in active if entry not in ended]
                free.extend(place for _, _, place in ended)
                yield [(run.name, verdict(run, p.returncode, folder)) for run, p, _ in ended]
        finally:
            for _, process, _ in active:
                process.terminate()
            for _, process, _ in active:
                process.wait()


@dataclass(frozen=True)
class OnRay:
    """A Ray cluster whose machines all see the project, the data and the results.

    Args:
        address: of the cluster; auto finds a running one, local starts one here for the while.
        gpus_per_run: GPUs a run takes, fractions allowed; None for one where there are any.
        threads: of a run; Ray counts them as processors.
    """

    address: str
    gpus_per_run: float | None
    threads: int
    at_a_time: int | None = None

    def carry_out(self, runs: Sequence[Run]) -> Generator[Ended]:
        """Submit all runs at once; Ray starts them as processors and GPUs get free.

        Raises:
            UserError: Ray is not installed, no cluster answers, or it has too little for a run.
        """
        ray = self._connect()
        have = ray.cluster_resources()
        gpus = min(1, have.get("GPU", 0)) if self.gpus_per_run is None else self.gpus_per_run
        for what, flag, need in (("CPU", "threads", self.threads), ("GPU", "gpus_per_run", gpus)):
            if need > have.get(what, 0):  # Ray would wait without end
                raise UserError(f"--{flag} {need:g}: the cluster has {have.get(what, 0):g} {what}s")
        task = ray.remote(run_to_end).options(
            num_cpus=self.threads, num_gpus=gpus, max_retries=RETRIES
        )
        left = {task.remote(run, self.threads, Path.cwd()): run.name for run in runs}
        try:
            while left:
                ended, _ = ray.wait(list(left), num_returns=len(left), timeout=POLL)
                yield [(left.pop(ref), _result(ray, ref)) for ref in ended]
        finally:
            for ref in left:
                ray.cancel(ref)
            if left:
                ray.wait(list(left), num_returns=len(left))  # until the processes have stopped
            ray.shutdown()

    def _connect(self) -> Any:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            import ray  # noqa: PLC0415 - optional
        except ImportError:
            raise UserError(
                "--engine ray: Ray is not installed; pip install -r requirements-ray.txt"
            ) from None
        try:
            host, _, port = self.address.rpartition(":")
            if port.isdecimal():  # Ray itself would knock at a wrong address for minutes
                socket.create_connection((host.split("//")[-1], int(port)), timeout=10).close()
            ray.init(
                address=self.address,
                log_to_driver=False,
                logging_level=logging.WARNING,
                runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(
                f"--address {self.address}: no Ray cluster answers ({reason}); start one with "
                "`ray start --head`, or one for this sweep alone with --address local"
            ) from error
        signal.signal(signal.SIGTERM, handler)  # Ray puts its own, which exits at once
        return ray


Engine = Local | OnRay


def run_to_end(run: Run, threads: int, folder: Path) -> str | None:
    """Carry out one run and return its error: what a Ray worker does.

    Stopping the worker stops the process. The run of a worker that is lost is started again
    elsewhere, and waits there if its old process is still alive.
    """
    process = start(run, threads, folder, {})
    try:
        while process.poll() is None:
            time.sleep(POLL)  # unlike wait(), it lets Ray's cancellation through
    finally:
        process.terminate()
        process.wait()
    return verdict(run, process.returncode, folder)


def _result(ray: Any, ref: Any) -> str | None:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:  # the worker was lost once too often
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"


def threads_of(options: Options, at_a_time: int) -> int:
    """Return how many threads a run has so that the cores are not oversubscribed."""
    return options.threads or max(1, cores() // at_a_time)


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
