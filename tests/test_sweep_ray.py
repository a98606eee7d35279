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

from exp.sweep import main
from tests.sweeps import SETTING, ended, finish, statuses, under_way, wait_for
from utils.files import UserError


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a cluster of two processors, which goes with the test and obeys it alone."""
    pytest.importorskip("ray", reason="requirements-ray.txt is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    folder = tempfile.mkdtemp(prefix="ray")  # pytest's own are too long for Ray's sockets
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
        *(f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2", "--num-gpus=0"),
        *("--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"),
    ]
    head = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert head.stdout is not None
    assert any("Ray runtime started" in line for line in head.stdout)
    yield f"127.0.0.1:{port}"
    head.terminate()
    head.communicate(timeout=60)
    shutil.rmtree(folder)


def test_killed_driver_and_lost_worker_leave_the_sweep_complete(cluster, start_sweep, tmp_path):
    words = ("--seeds", "0", "--engine", "ray", "--address", cluster)
    sweep = start_sweep(*words, results=tmp_path)
    wait_for(lambda: under_way(tmp_path) != {}, sweep)
    sweep.kill()
    sweep.communicate()

    sweep = start_sweep(*words, results=tmp_path)
    wait_for(lambda: len(ended(tmp_path)) == 2 and under_way(tmp_path) != {}, sweep)
    ((_, process),) = under_way(tmp_path).items()
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    worker = next(int(line.split()[1]) for line in status if line.startswith("PPid:"))
    assert "ray::" in Path(f"/proc/{worker}/cmdline").read_text()
    os.kill(worker, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    code, output, errors = finish(sweep)
    assert code == 0, (output, errors)
    assert "failed 0" in output
    assert statuses(tmp_path) == ["finished"] * 3


def test_without_a_cluster_or_without_ray_the_error_says_what_to_do(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="requirements-ray.txt is not installed")
    words = [*SETTING, "--results", str(tmp_path), "--seeds", "0", "--engine", "ray"]
    with pytest.raises(UserError, match=r"--address 127\.0\.0\.1:1: no Ray cluster answers"):
        main([*words, "--address", "127.0.0.1:1"])
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed; pip install -r requirements-ray"):
        main(words)
