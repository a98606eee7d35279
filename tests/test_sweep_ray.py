"""A sweep on a real Ray cluster that loses its driver, then a worker."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweeps import ended, finish, statuses, under_way, wait_for


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of two processors, which goes with the test and obeys it alone."""
    pytest.importorskip("ray", reason="requirements-ray.txt is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    folder = tempfile.mkdtemp(prefix="ray")  # pytest's own are too long for Ray's sockets
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
        *(f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2", "--num-gpus=0"),
        *("--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"),
    ]
    head = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert head.stdout is not None
    assert any("Ray runtime started" in line for line in head.stdout)
    yield
    head.terminate()
    head.communicate(timeout=60)
    shutil.rmtree(folder)


@pytest.mark.usefixtures("cluster")
def test_killed_driver_and_lost_worker_leave_the_sweep_complete(start_sweep, tmp_path):
    flags = ("--seeds", "0", "--engine", "ray")
    code, _, errors = finish(start_sweep(*flags, "--threads", "3", results=tmp_path))
    assert code == 2 and "error: --threads 3: the cluster has 2 CPUs\n" in errors
    sweep = start_sweep(*flags, results=tmp_path)
    wait_for(lambda: bool(under_way(tmp_path)), sweep)
    sweep.kill()
    sweep.communicate()

    sweep = start_sweep(*flags, results=tmp_path)
    wait_for(lambda: len(ended(tmp_path)) == 2 and len(under_way(tmp_path)) == 1, sweep)
    (process,) = under_way(tmp_path)
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    worker = next(int(line.split()[1]) for line in status if line.startswith("PPid:"))
    assert "ray::" in Path(f"/proc/{worker}/cmdline").read_text()
    os.kill(worker, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    code, output, errors = finish(sweep)
    assert code == 0, (output, errors)
    assert "failed 0" in output
    assert statuses(tmp_path) == ["finished"] * 3
