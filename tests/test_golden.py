"""Parity with arrays that the original code gave (see golden/PROVENANCE.md)."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from models import MODELS

NAMES = ("informer_prob", "informer_full", "informer_prob_maps", "transformer", "autoformer")
NOT_THE_MODELS = ("model", "pred_len", "forward_seed", "lam", "adam_lr", "adam_seed")
POSITIONS = {f"{side}_embedding.position_embedding.pe" for side in ("enc", "dec")}
# Zero in exact arithmetic, so they hold rounding noise: keys shift all scores of a query alike,
# and batch norm removes what a bias before it adds.
NOISE = ("key_projection.bias", "downConv.bias", "norm2.bias")
COMMITTED = Path(__file__).parent / "golden"
each_axis = pytest.mark.parametrize("axis", ("time", "feature"))


class Golden:
    def __init__(self, path: Path):
        with np.load(path) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.config = json.loads(str(self.arrays.pop("config")))
        self.seed = self.config.get("forward_seed", 0)
        names = ("x_enc", "x_mark_enc", "x_dec", "x_mark_dec")
        self.inputs = [torch.from_numpy(self.arrays[name]) for name in names]
        self.target = torch.from_numpy(self.arrays["y"])[:, -self.config["pred_len"] :]

    def under(self, prefix):
        return {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}

    def fresh(self, axis="time"):
        settings = {k: v for k, v in self.config.items() if k not in NOT_THE_MODELS}
        row = MODELS[self.config["model"]]
        return row(**settings, out_len=self.config["pred_len"], lip_axis=axis)

    def model(self, axis="time"):
        model = self.fresh(axis)
        tables = {k: v for k, v in model.state_dict().items() if k in POSITIONS}
        weights = {k: torch.from_numpy(v) for k, v in self.under("w/").items()}
        model.load_state_dict(weights | tables, strict=True)
        return model

    def losses(self, model):
        forecast = model(*self.inputs)
        mse = (forecast.pred - self.target).square().mean()
        return mse, forecast.lip, mse - self.config.get("lam", 0) * forecast.lip


def agree(ours, golden, name=""):
    ours = np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours)
    assert ours.shape == golden.shape, name
    bound = 1e-5 * np.abs(golden).max() + 1e-6
    assert np.abs(ours.astype(np.float64) - golden).max() <= bound, name


@pytest.fixture
def folder(request):
    """Folder of all arrays where they are, else of those that are committed."""
    there = os.environ.get("INFORMER_DATA", "") or os.environ.get("CI")
    return request.getfixturevalue("golden") if there else COMMITTED


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_is_a_part_of_all(name, golden):
    one, whole = Golden(COMMITTED / f"{name}.npz"), Golden(golden / f"{name}.npz")
    assert one.config == whole.config and one.arrays
    assert all(np.array_equal(whole.arrays[key], array) for key, array in one.arrays.items())


@pytest.fixture(params=NAMES)
def case(request, folder):
    return Golden(folder / f"{request.param}.npz")


def test_state_is_the_original_codes(case):
    state, golden = case.fresh().state_dict(), case.under("w/")
    for name in POSITIONS:
        assert state.pop(name).shape == (1, 5000, case.config["d_model"])
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in golden.items()}
    for name in golden:
        if name.endswith("_embed.emb.weight"):  # the fixed tables
            agree(state[name], golden[name], name)


@each_axis
def test_evaluation(case, axis):
    model = case.model(axis).eval()
    torch.manual_seed(case.seed)
    with torch.no_grad():
        forecast = model(*case.inputs)
    agree(forecast.pred, case.arrays["eval/pred"])
    agree(forecast.embedded, case.arrays["eval/enc_embedding"])
    agree(forecast.lip, case.arrays[f"lip/{axis}"])
    maps = case.under("eval/attn/")
    assert bool(maps) == case.config["output_attention"] == (forecast.attns is not None)
    for layer, golden in maps.items():
        agree(forecast.attns[int(layer)], golden, layer)


@each_axis
def test_training_gradients(case, axis):
    model = case.model(axis).train()
    torch.manual_seed(case.seed)
    losses = dict(zip(("mse", "lip", "loss"), case.losses(model), strict=True))
    losses["loss"].backward()
    prefix = f"train_{axis}/" if "lam" in case.config else "train/"  # Autoformer's: loss = mse
    golden = case.under(prefix)
    assert "mse" in golden
    for name in losses.keys() & golden.keys():
        agree(losses[name], golden[name], name)
    gradients = {k: p.grad for k, p in model.named_parameters() if p.requires_grad}
    for name, gradient in case.under(f"{prefix}grad/").items():
        agree(gradients[name], gradient, name)
    if "pred" in golden:
        agree(model(*case.inputs).pred, golden["pred"])


@each_axis
def test_adam_trajectory(folder, axis):
    case = Golden(folder / "informer_prob.npz")
    model = case.model(axis).train()
    adam = torch.optim.Adam(model.parameters(), lr=case.config["adam_lr"])
    torch.manual_seed(case.config["adam_seed"])
    trace = []
    for _ in range(5):
        adam.zero_grad()
        losses = case.losses(model)
        losses[-1].backward()
        adam.step()
        trace.append([value.item() for value in losses])
    agree(np.array(trace), case.arrays[f"adam_{axis}/trace"])
    gradients = case.under(f"train_{axis}/grad/")
    state = model.state_dict()
    for name, golden in case.under(f"adam_{axis}/w/").items():
        # Adam steps by the learning rate however small the gradient, so noise moves too.
        if name in gradients and np.abs(gradients[name]).max() < 1e-6:
            assert name.endswith(NOISE), name
        elif not name.endswith("running_mean"):
            agree(state[name], golden, name)
