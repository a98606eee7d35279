"""The sign of c, from the command line to the weights and from a script to the table."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from exp.record import Record, read_runs
from paper import tables
from paper.figures import draw_all
from paper.runs import load, select_metrics
from tests.runs import ROOT, build, only_run, tiny
from tests.test_scripts import REAL, SMALL, bash  # noqa: F401 - a fixture
from utils.files import read_json

STEP = ["--batch_size", "615", "--train_epochs", "2", "--attn", "full", "--dropout", "0"]
FAST = ["--train_epochs", "2", "--learning_rate", "0.005"]
SIGNS = {"minus": -1, "plus": 1}


def lip_by_hand(h: Tensor, axis: str, norm: str) -> Tensor:
    """Definition 3.1 on an embedding [B, L, D], by the published normalisation or another."""
    divisor = {"max": h.max(), "range": h.max() - h.min(), "none": 1.0}[norm]
    x = (h if axis == "time" else h.transpose(1, 2)) / divisor
    return (x[:, 1:] - x[:, :-1]).square().mean()


@cache
def steps_by_hand(c: float, axis: str, norm: str) -> dict[str, Tensor]:
    """Take two steps of Adam on MSE + c * LipReg, over all training windows in their order.

    Returns:
        The weights of the embedding, which LipReg pulls at.
    """
    exp = build(*STEP, "--lam", "0")
    model = exp.model.train()
    batch = exp.data.train.batch(torch.arange(len(exp.data.train)))
    known, true = batch.y[:, :6], batch.y[:, 6:]
    x_dec = torch.cat([known, torch.zeros_like(true)], dim=1)
    adam = torch.optim.Adam(model.parameters(), lr=0.001)
    for _ in range(2):
        adam.zero_grad()
        pred = model(batch.x, batch.x_mark, x_dec, batch.y_mark).pred
        h = model.enc_embedding(batch.x, batch.x_mark)[0]
        ((pred - true).square().mean() + c * lip_by_hand(h, axis, norm)).backward()
        adam.step()
    return model.enc_embedding.state_dict()


def farthest(weights: dict[str, Tensor], by_hand: dict[str, Tensor]) -> float:
    """Return the largest distance of the embedding's weights; a step moves them by 0.001."""
    return max(float((weights[f"enc_embedding.{k}"] - v).abs().max()) for k, v in by_hand.items())


@pytest.mark.parametrize(
    ("sign", "axis", "norm"),
    [
        *(("minus", "time", "max"), ("plus", "time", "none"), ("minus", "feature", "range")),
        *(("minus", "feature", "max"), ("plus", "feature", "max")),
    ],
)
def test_the_weights_follow_the_sign(sign, axis, norm, tmp_path):
    lam = 2 if axis == "feature" else 200  # as much in gradients: in time h hardly moves
    words = ["--lam", str(lam), "--lip_sign", sign, "--lip_axis", axis, "--lip_norm", norm]
    assert tiny(tmp_path, *STEP, *words) == 0
    folder = only_run(tmp_path)
    assert read_json(folder / "metrics.json")["best_epoch"] == 2  # the weights after two steps
    weights = torch.load(folder / "weights.pt", weights_only=True)
    assert farthest(weights, steps_by_hand(lam * SIGNS[sign], axis, norm)) < 2e-5
    assert farthest(weights, steps_by_hand(-lam * SIGNS[sign], axis, norm)) > 2e-4
    other = {"minus": "plus", "plus": "minus"}[sign]
    assert tiny(tmp_path, *STEP, *words, "--lam", str(-lam), "--lip_sign", other) == 0
    assert only_run(tmp_path) == folder  # a negative lambda is the other sign: the same run


@pytest.mark.parametrize(("axis", "lam"), [("time", "200"), ("feature", "8")])
def test_minus_makes_the_embedding_rougher_and_plus_smoother(axis, lam, tmp_path):
    found = []
    for c, sign in ((lam, "minus"), ("0", "minus"), (lam, "plus")):
        exp = build("--lip_axis", axis, "--lip_sign", sign, "--lam", c, *FAST)
        folder = tmp_path / sign / c
        folder.mkdir(parents=True)
        exp.train(Record(folder, {}))
        batch = exp.data.val.batch(torch.arange(len(exp.data.val)))
        with torch.no_grad():
            h = exp.model.eval().enc_embedding(batch.x, batch.x_mark)[0]
        found.append(float(lip_by_hand(h, axis, "max")))
    rougher, plain, smoother = found
    assert rougher > 1.1 * plain > 1.2 * smoother, found


def test_one_run_from_signs_in_a_script_to_table_and_figure(tmp_path, bash):  # noqa: F811
    results = tmp_path / "results"
    line = f"bash scripts/sweep.sh {ROOT}/tests/part.csv --target temp {SMALL}"
    line += " --batch_size 128 --seq_len 24 --label_len 12"
    variables = {"SIGNS": "minus", "LAMS": "0 2", "SEEDS": "3", "AXIS": "time", "JOBS": "1"}
    answer = bash(line, REAL, RESULTS=str(results), **variables)
    assert answer.returncode == 0, answer
    runs = read_runs(results).set_index("lip_coef")
    assert sorted(runs.index) == [-2.0, 0.0] and set(runs["seed"]) == {3}
    log = results / "logs" / f"{runs.loc[-2.0, 'run']}.log"
    assert "loss = MSE - 2 Lip (time axis, max-normalised)" in log.read_text()
    without, lip = (runs.loc[c, "mse"] for c in (0.0, -2.0))
    loaded = load(results)
    scored = select_metrics(loaded.frame)
    shown = tables.result_tables(tables.cells(scored))[0].text.iloc[0]
    errors = [shown[f"ours: {side}"].strip("*") for side in ("MSE", "with Lip")]
    assert errors == [f"{without:.4f}", f"{lip:.4f}"]
    (axis,) = draw_all(loaded, scored)["changes"].axes
    assert "time axis" in axis.get_xticklabels()[0].get_text()
    dot = next(line for line in axis.lines if line.get_label() == "one seed")
    assert np.ravel(dot.get_ydata()) == pytest.approx([100 * (lip / without - 1)])
