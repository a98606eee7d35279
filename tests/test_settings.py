"""Every setting moves what it says: a new field of Config without a case here fails."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from exp.config import Config
from exp.exp_informer import Exp_Informer
from exp.record import Record, read_history
from models.layers import has_bf16_kernels
from tests import runs
from tests.runs import ROOT, only_run, tiny
from utils.files import UserError

CALM = ["--lam", "0", "--batch_size", "512"]
MAPS, ALL = "--output_attention", "--features M"


class Case(NamedTuple):
    """What is read from the forward pass of an experiment, before and after other words."""

    words: str
    read: Callable[[Exp_Informer], Any]
    before: Any
    after: Any
    always: str = ""  # words of both
    alone: bool = False  # weights and inputs stay the same, the forecast does not


def build(words: str = "") -> Exp_Informer:
    return runs.build(*CALM, *words.split())


def call(exp: Exp_Informer, part: nn.Module | None = None, training: bool = False) -> Any:
    """Take the loss of 32 windows; return what a part of the model was given, and what it gave."""
    calls: list[Any] = []
    hook = (part or exp.model).register_forward_hook(
        lambda _, given, gave: calls.append((given, gave))
    )
    torch.manual_seed(1)
    exp.model.train(training)
    with torch.set_grad_enabled(training):
        exp.loss(exp.data.train.batch(torch.arange(32)))
    hook.remove()
    return calls[0]


def memory(exp: Exp_Informer) -> list[int]:
    """Return how many steps and channels the encoder hands to the decoder."""
    return list(call(exp, exp.model.encoder)[1][0].shape[1:])


def active(exp: Exp_Informer) -> int:
    """Count the first layer's queries that attend; the others have a plain mean."""
    rows = call(exp)[1].attns[0][0, 0]  # [L, L]
    return int(((rows - 1 / len(rows)).abs() > 1e-9).any(1).sum())


def given(i: int) -> Callable[[Exp_Informer], list[int]]:
    """Read the steps and columns of the model's i-th input."""
    return lambda exp: list(call(exp)[0][i].shape[1:])


def formats(exp: Exp_Informer) -> tuple[torch.dtype, set[torch.dtype]]:
    """Return the number format inside, and those of weights and forecast."""
    outside = {p.dtype for p in (call(exp)[1].pred, *exp.model.parameters())}
    return call(exp, exp.model.encoder)[1][0].dtype, outside


def tables(exp: Exp_Informer) -> tuple[torch.dtype, int]:
    trained = [p for n, p in exp.model.named_parameters() if "temporal" in n and p.requires_grad]
    return exp.data.train.marks.dtype, len(trained)


def placeholder(exp: Exp_Informer) -> set[float]:
    return set(call(exp)[0][2][:, 6:].flatten().tolist())


def columns(exp: Exp_Informer) -> list[str]:
    return exp.data.columns


def dropped(exp: Exp_Informer) -> float:
    """Return the share of zeros in the embedding, in training."""
    h = call(exp, exp.model.enc_embedding, training=True)[1][0]
    return float((h == 0).float().mean())


SINGLE = {torch.float32}
CASES = {
    "model": Case("--model informerstack", memory, [6, 8], [9, 8]),  # the last 12, 6 and 3 steps
    "data": Case("--data demo", lambda exp: len(exp.data.dates), 900, 8730),
    "target": Case("--target humid", columns, ["temp"], ["humid"]),
    "cols": Case("--cols humid temp", columns, ["dewp", "humid", "temp"], ["humid", "temp"], ALL),
    "freq": Case("--freq t", given(1), [12, 4], [12, 5]),
    "seq_len": Case("--seq_len 20", given(0), [12, 1], [20, 1]),
    "label_len": Case("--label_len 3", given(2), [10, 1], [7, 1]),
    "pred_len": Case("--pred_len 9", lambda exp: call(exp)[1].pred.shape[1], 4, 9),
    "d_model": Case("--d_model 12", memory, [6, 8], [6, 12]),
    "n_heads": Case("--n_heads 4", lambda exp: call(exp)[1].attns[1].shape[1], 2, 4, MAPS, True),
    "e_layers": Case("--e_layers 3", memory, [6, 8], [3, 8]),
    "d_layers": Case("--d_layers 3", lambda exp: len(exp.model.decoder.layers), 1, 3),
    "s_layers": Case("--s_layers 2,1", memory, [9, 8], [12, 8], "--model informerstack"),
    "d_ff": Case("--d_ff 20", lambda exp: len(exp.model.decoder.layers[0].conv1.weight), 16, 20),
    "factor": Case("--factor 2", active, 3, 6, f"--factor 1 {MAPS}", True),  # 2 * ceil(ln 12)
    "moving_avg": Case(
        "--moving_avg 3", lambda exp: exp.model.moving_avg, 25, 3, "--model autoformer", True
    ),
    "padding": Case("--padding 1", placeholder, {0.0}, {1.0}),
    "dropout": Case("--dropout 0.5", dropped, 0.0, pytest.approx(0.5, abs=0.03), "--dropout 0"),
    "distil": Case("--distil", memory, [6, 8], [12, 8]),
    "mix": Case("--mix", lambda exp: None, None, None, "", True),
    "attn": Case("--attn full", active, 3, 12, f"--factor 1 {MAPS}", True),
    "embed": Case("--embed learned", tables, (torch.int64, 0), (torch.int64, 8), "--embed fixed"),
    "activation": Case("--activation relu", lambda exp: None, None, None, "", True),
    "output_attention": Case(MAPS, lambda exp: call(exp)[1].attns is None, True, False),
    "amp": Case("--amp bf16", formats, (torch.float32, SINGLE), (torch.bfloat16, SINGLE)),
}
# of tests/test_sign.py, tests/test_experiment.py (its count of steps), tests/test_flags.py
ELSEWHERE = ("lip_coef", "lip_axis", "lip_norm", "batch_size", "loss")
FIELDS = [f.name for f in dataclasses.fields(Config) if f.name not in ELSEWHERE]


@pytest.mark.parametrize("field", FIELDS)
def test_another_value_moves_what_it_says(field, tmp_path):
    if field not in CASES:
        getattr(Moves(tmp_path), field)()
        return
    if field == "amp" and not has_bf16_kernels():
        pytest.skip("no bf16 kernels on this processor")
    words, read, before, after, always, alone = CASES[field]
    one, other = build(always), build(f"{always} {words}")
    assert read(one) == before and read(other) == after
    if alone:
        pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        (asked, first), (same, second) = call(one), call(other)
        assert all(torch.equal(a, b) for a, b in zip(asked, same, strict=True))
        assert not torch.allclose(first.pred, second.pred)


class Moves:
    """The settings that take more than one look at the forward pass."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def column(self, name: str, words: str) -> list[float]:
        """Train, and return a column of the history."""
        results = self.folder / str(len(list(self.folder.iterdir())))
        assert tiny(results, *CALM, *words.split()) == 0
        return read_history(only_run(results))[name].to_list()

    def features(self):
        for features, columns, out in (("S", 1, 1), ("M", 3, 3), ("MS", 3, 1)):
            exp = build(f"--features {features}")
            inputs, forecast = call(exp)
            batch = exp.data.train.batch(torch.arange(32))
            assert (inputs[0].shape[2], forecast.pred.shape[2]) == (columns, out)
            torch.manual_seed(1)
            by_hand = (forecast.pred - batch.y[:, 6:, -out:]).square().mean()
            with torch.no_grad():
                assert float(exp.loss(batch)[1]) == pytest.approx(float(by_hand), rel=1e-5)

    def missing(self):
        lines = (ROOT / "tests/part.csv").read_text(encoding="utf-8").splitlines()
        lines[4] = lines[4].rpartition(",")[0] + ",-9999"
        (self.folder / "part.csv").write_text("\n".join(lines), encoding="utf-8")
        for words, reading in (("", -9999), ("--missing interpolate", 39.47)):
            data = build(f"--root_path {self.folder} {words}").data
            rows = data.scaler.inverse(data.train.values.numpy())[2:5, 0]
            assert rows.tolist() == pytest.approx([39.92, reading, 39.02], abs=0.01)

    def max_gap(self):
        lines = (ROOT / "tests/part.csv").read_text(encoding="utf-8").splitlines()
        (self.folder / "part.csv").write_text("\n".join(lines[:4] + lines[6:]), encoding="utf-8")
        words = f"--root_path {self.folder} --missing interpolate --max_gap"
        assert len(build(f"{words} 2").data.dates) == len(lines) - 1
        with pytest.raises(UserError, match="gaps of over 1 steps"):
            build(f"{words} 1")

    def patience(self):
        words = "--train_epochs 7 --batch_size 128 --learning_rate 0.1 --patience"
        errors = self.column("val_mse", f"{words} 7")
        stop = next(e for e in range(1, 7) if errors[e] > min(errors[:e])) + 1
        assert stop < 7  # or the case shows nothing
        assert self.column("val_mse", f"{words} 1") == errors[:stop]

    def lradj(self):
        words = "--train_epochs 4 --learning_rate 0.002 --lradj"
        one, two = (self.column("lr", f"{words} type{n}") for n in (1, 2))
        assert (one, two) == ([2e-3, 2e-3, 1e-3, 5e-4], [2e-3, 2e-3, 5e-5, 5e-5])

    train_epochs = learning_rate = lradj

    def start(self, seed: int) -> tuple[Tensor, Tensor]:
        """Return the initial weights of the projection, and the first batch trained on."""
        exp, batches = build(f"--seed {seed} --train_epochs 1"), []
        folder = self.folder / str(seed)
        weights = exp.model.projection.weight.detach().clone()
        exp.model.register_forward_pre_hook(lambda _, given: batches.append(given[0]))
        folder.mkdir()
        exp.train(Record(folder, {}), folder)
        return weights, batches[0]

    def seed(self):
        for one, other in zip(self.start(3), self.start(4), strict=True):
            assert not torch.equal(one, other)

    def eval_batch_size(self):
        exp, sizes = build("--eval_batch_size 50"), []
        exp.model.register_forward_hook(lambda _, given, gave: sizes.append(len(gave.pred)))
        exp.vali()
        assert sizes == [50, 37]
