"""A file that would run code when it is unpickled is refused wherever a file of torch's is read."""

import hashlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from exp.forecast import forecast
from tests.runs import ROOT, STEPS, tiny
from utils.files import UserError, read_json, write_json

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


@pytest.mark.parametrize("kind", FORMATS)
def test_what_would_run_code_is_refused(kind, finished, tmp_path, capsys):
    folder, ran = shutil.copytree(finished, tmp_path / "results" / finished.name), tmp_path / "ran"
    weights, metrics = folder / "weights.pt", read_json(folder / "metrics.json")
    body = {"enc_embedding.weight": Bait(ran), "best": {"weight": Bait(ran)}}
    FORMATS[kind](body, weights)
    if kind == "bare":
        pickle.loads(weights.read_bytes())
    else:
        torch.load(weights, weights_only=False)
    assert ran.exists()  # the bait works where it is swallowed
    ran.unlink()
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    write_json(folder / "metrics.json", {**metrics, "weights_sha256": sha256})  # it holds

    def refused_in_one_line(errors: str) -> None:
        (line,) = errors.splitlines()
        assert line.startswith(f"error: {weights}: not a plain weights file") and not ran.exists()

    for words in (["--do_predict"], ["--test_only", "--load", str(weights)]):
        assert tiny(folder.parent, *words) == 2
        refused_in_one_line(capsys.readouterr().err)
    with pytest.raises(UserError) as error:
        forecast(folder, pd.read_csv(ROOT / "tests" / "part.csv"))
    refused_in_one_line(f"error: {error.value}")

    (folder / "metrics.json").unlink()  # as if the run had been cut off: a checkpoint is read
    planted = weights.rename(folder / f"state-{STEPS:09d}-{sha256[:16]}.pt")
    assert tiny(folder.parent) == 0  # the run begins anew
    assert f"warning: {planted.name}" in capsys.readouterr().out
    assert not ran.exists() and not planted.exists()
    assert read_json(folder / "metrics.json")["all"] == metrics["all"]
