"""A file that would run code when it is unpickled is refused wherever a file of torch's is read."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from exp.forecast import forecast
from main_informer import main
from tests.runs import ROOT, TINY, only_run
from utils.errors import UserError
from utils.files import read_json, write_json

ONE_EPOCH = [*TINY, "--train_epochs", "1"]
FORMATS: dict[str, Callable[[Any, Path], object]] = {
    "zip": torch.save,
    "legacy": lambda body, path: torch.save(body, path, _use_new_zipfile_serialization=False),
    "bare": lambda body, path: path.write_bytes(pickle.dumps(body, protocol=2)),
}


class Bait:
    """Makes a file when it is unpickled by anything that runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture(params=FORMATS)
def hostile(request, tmp_path):
    """Return a function that writes a hostile file, and one that says whether its code ran."""
    ran, write = tmp_path / "ran", FORMATS[request.param]

    def plant(path: Path) -> str:
        """Write weights with the bait among them, and return their checksum."""
        write({"enc_embedding.weight": Bait(ran), "best": {"weight": Bait(ran)}}, path)
        torch.load(path, weights_only=False) if request.param != "bare" else pickle.loads(
            path.read_bytes()
        )
        assert ran.exists()  # the bait works where it is swallowed
        ran.unlink()
        return hashlib.sha256(path.read_bytes()).hexdigest()

    return plant, ran.exists


def test_a_checkpoint_with_the_right_hash_in_its_name(hostile, tmp_path, capsys):
    plant, ran = hostile
    words = [*ONE_EPOCH, "--results", str(tmp_path / "results")]
    assert main(words) == 0
    folder = only_run(tmp_path / "results")
    sound = read_json(folder / "metrics.json")["all"]
    (folder / "metrics.json").unlink()  # as if the run had been cut off
    sha256 = plant(tmp_path / "state.pt")
    planted = folder / f"state-{23:09d}-{sha256[:16]}.pt"
    (tmp_path / "state.pt").rename(planted)
    capsys.readouterr()
    assert main(words) == 0  # the run begins anew
    assert not ran()
    assert f"warning: {planted.name}" in capsys.readouterr().out
    assert not planted.exists()
    assert read_json(folder / "metrics.json")["all"] == sound


def test_weights_of_a_finished_run_with_a_checksum_that_holds(hostile, tmp_path, capsys):
    plant, ran = hostile
    words = [*ONE_EPOCH, "--results", str(tmp_path / "results")]
    assert main(words) == 0
    folder = only_run(tmp_path / "results")
    metrics = read_json(folder / "metrics.json")
    assert metrics["weights_sha256"]
    metrics["weights_sha256"] = plant(folder / "weights.pt")
    write_json(folder / "metrics.json", metrics)
    capsys.readouterr()
    assert main([*words, "--do_predict"]) == 2
    refused_in_one_line(capsys.readouterr().err, folder / "weights.pt")
    with pytest.raises(UserError) as error:
        forecast(folder, pd.read_csv(ROOT / "data/demo/demo.csv", usecols=["date", "temp"]))
    refused_in_one_line(f"error: {error.value}", folder / "weights.pt")
    assert not ran()
    assert not (folder / "prediction.csv").exists()


def test_weights_to_be_tested(hostile, tmp_path, capsys):
    plant, ran = hostile
    plant(tmp_path / "weights.pt")
    assert main([*TINY, "--test_only", "--load", str(tmp_path / "weights.pt")]) == 2
    assert not ran()
    refused_in_one_line(capsys.readouterr().err, tmp_path / "weights.pt")


def refused_in_one_line(errors: str, path: Path) -> None:
    (line,) = errors.splitlines()
    assert line.startswith(f"error: {path}: not a plain weights file")
