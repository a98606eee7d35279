"""Every setting moves what it says: a new field of Config without a case here fails."""

import dataclasses
from typing import Any

import pytest
import torch

from exp.config import Config
from exp.record import Record, read_history
from models.layers import has_bf16_kernels
from tests.runs import build, only_run, tiny

CALM = ["--lam", "0", "--batch_size", "512"]
SINGLE = {torch.float32}
MAPS, ALL, STACK = "--output_attention", "--features M", "--model informerstack"


def look(words: str) -> dict[str, Any]:
    """Take the loss of 32 windows; return what was seen of data, model, inputs and forecast."""
    exp, seen = build(*CALM, *words.split()), {}
    for name in ("", "encoder", "enc_embedding"):
        exp.model.get_submodule(name).register_forward_hook(
            lambda _, given, gave, name=name: seen.update({name: (given, gave)})
        )
    torch.manual_seed(1)
    exp.model.train("--dropout" in words)
    with torch.no_grad():
        exp.loss(exp.data.train.batch(torch.arange(32)))
    (inputs, forecast), encoded = seen[""], seen["encoder"][1][0]
    maps, weights = forecast.attns or [], exp.model.state_dict()
    outside = {forecast.pred.dtype, *(x.dtype for x in exp.model.parameters())}
    trained = [name for name, x in exp.model.named_parameters() if x.requires_grad]
    return {
        **{"rows": len(exp.data.dates), "columns": exp.data.columns},
        **{"x": [*inputs[0].shape[1:]], "mark": [*inputs[1].shape[1:]]},
        **{"x_dec": [*inputs[2].shape[1:]], "blank": {*inputs[2][:, 6:].flatten().tolist()}},
        "zeros": float((seen["enc_embedding"][1][0] == 0).float().mean()),
        "encoded": [*encoded.shape[1:]],  # steps and channels that the decoder is given
        "heads": [layer.shape[1] for layer in maps],
        # queries of the first layer that attend; the others have a plain mean
        "active": sum(bool(row.max() > row.min()) for layer in maps[:1] for row in layer[0, 0]),
        **{
            "decoders": len(layers := exp.model.decoder.layers),
            "d_ff": len(layers[0].conv1.weight),
        },
        "dates": sum("temporal" in name for name in trained),
        "formats": (encoded.dtype, outside),
        "pred": forecast.pred.shape[1],
        "alone": ([*weights.values(), *inputs], forecast.pred),
    }


CASES: dict[str, tuple[str, str, Any, Any, str]] = {  # words, what is seen before and after; both's
    "model": (STACK, "encoded", [6, 8], [9, 8], ""),  # the last 12, 6 and 3 steps
    "data": ("--data demo", "rows", 900, 8730, ""),
    "target": ("--target humid", "columns", ["temp"], ["humid"], ""),
    "cols": ("--cols humid temp", "columns", ["dewp", "humid", "temp"], ["humid", "temp"], ALL),
    "freq": ("--freq t", "mark", [12, 4], [12, 5], ""),
    "seq_len": ("--seq_len 20", "x", [12, 1], [20, 1], ""),
    "label_len": ("--label_len 3", "x_dec", [10, 1], [7, 1], ""),
    "pred_len": ("--pred_len 9", "pred", 4, 9, ""),
    "d_model": ("--d_model 12", "encoded", [6, 8], [6, 12], ""),
    "n_heads": ("--n_heads 4", "heads", [2, 2], [4, 4], MAPS),
    "e_layers": ("--e_layers 3", "encoded", [6, 8], [3, 8], ""),
    "d_layers": ("--d_layers 3", "decoders", 1, 3, ""),
    "s_layers": ("--s_layers 2,1", "encoded", [9, 8], [12, 8], STACK),
    "d_ff": ("--d_ff 20", "d_ff", 16, 20, ""),
    "factor": ("--factor 2", "active", 3, 6, f"--factor 1 {MAPS}"),  # 2 * ceil(ln 12)
    "moving_avg": ("--moving_avg 3", "", None, None, "--model autoformer"),
    "padding": ("--padding 1", "blank", {0.0}, {1.0}, ""),
    "dropout": ("--dropout 0.5", "zeros", 0.0, pytest.approx(0.5, abs=0.03), "--dropout 0"),
    "distil": ("--distil", "encoded", [6, 8], [12, 8], ""),
    "mix": ("--mix", "", None, None, ""),
    "attn": ("--attn full", "active", 3, 12, f"--factor 1 {MAPS}"),
    "embed": ("--embed learned", "dates", 0, 8, "--embed fixed"),
    "activation": ("--activation relu", "", None, None, ""),
    "output_attention": (MAPS, "heads", [], [2, 2], ""),
    "amp": ("--amp bf16", "formats", (torch.float32, SINGLE), (torch.bfloat16, SINGLE), ""),
}
ALONE = {"n_heads", "factor", "moving_avg", "mix", "attn", "activation"}
# in tests/test_sign.py, tests/test_experiment.py (its count of steps), tests/test_flags.py and
# tests/test_checkpoint.py
ELSEWHERE = {"lip_coef", "lip_axis", "lip_norm", "batch_size", "loss", "patience"}


@pytest.mark.parametrize("field", CASES)
def test_another_value_moves_what_it_says(field):
    if field == "amp" and not has_bf16_kernels():
        pytest.skip("no bf16 kernels on this processor")
    words, what, before, after, both = CASES[field]
    one, other = look(both), look(f"{both} {words}")
    assert (one.get(what), other.get(what)) == (before, after)
    if field in ALONE:  # weights and inputs stay the same, the forecast does not
        (same, first), (again, second) = one["alone"], other["alone"]
        assert all(torch.equal(a, b) for a, b in zip(same, again, strict=True))
        assert not torch.allclose(first, second)


def features(_):
    for words, columns, out in (("S", 1, 1), ("M", 3, 3), ("MS", 3, 1)):
        exp = build(*CALM, "--features", words)
        batch = exp.data.train.batch(torch.arange(32))
        _, mse, forecast = exp.loss(batch)
        assert (batch.x.shape[2], forecast.pred.shape[2]) == (columns, out)
        by_hand = (forecast.pred - batch.y[:, 6:, -out:]).square().mean()
        assert mse.item() == pytest.approx(by_hand.item(), rel=1e-5)


def train_epochs_and_learning_rate_and_lradj(folder):
    words = ["--train_epochs", "4", "--learning_rate", "0.002", "--batch_size", "512", "--lradj"]
    for schedule, rates in (("type1", [1e-3, 5e-4]), ("type2", [5e-5, 5e-5])):
        assert tiny(folder / schedule, *words, schedule) == 0
        history = read_history(only_run(folder / schedule))
        assert history["lr"].to_list() == [2e-3, 2e-3, *rates]


def seed(folder):
    """Another seed moves the initial weights and the first batch trained on."""
    found = []
    for number in ("3", "4"):
        exp = build(*CALM, "--seed", number, "--train_epochs", "1")
        found.append([exp.model.projection.weight.detach().clone()])
        exp.model.register_forward_pre_hook(lambda _, given: found[-1].append(given[0]))
        (folder / number).mkdir()
        exp.train(Record(folder / number, {}))
    assert not any(torch.equal(a, b) for a, b in zip(found[0][:2], found[1][:2], strict=True))


def eval_batch_size(_):
    exp, sizes = build(*CALM, "--eval_batch_size", "50"), []
    exp.model.register_forward_hook(lambda _, given, gave: sizes.append(len(gave.pred)))
    exp.vali()
    assert sizes == [50, 37]


# settings that take more than one look at the forward pass
LONGER = (
    *(features, train_epochs_and_learning_rate_and_lradj),
    *(seed, eval_batch_size),
)


@pytest.mark.parametrize("moves", LONGER, ids=lambda case: case.__name__)
def test_other_values_move_what_they_say(moves, tmp_path):
    moves(tmp_path)


def test_every_field_has_a_case():
    longer = {field for case in LONGER for field in case.__name__.split("_and_")}
    assert {f.name for f in dataclasses.fields(Config)} == {*CASES, *longer, *ELSEWHERE}
