"""Parity with arrays that the original code gave (see golden/PROVENANCE.md)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models import MODELS

NAMES = ("informer_prob", "informer_full", "informer_prob_maps", "transformer", "autoformer")
SETTINGS = {"label_len", "seq_len", "enc_in", "dec_in", "c_out", "factor", "d_model", "n_heads"}
SETTINGS |= {"e_layers", "d_layers", "d_ff", "dropout", "attn", "embed", "freq", "activation"}
SETTINGS |= {"output_attention", "distil", "mix", "moving_avg"}
AXES = ("time", "feature")
# Zero in exact arithmetic, so they hold rounding noise: keys shift all scores of a query alike,
# and batch norm removes what a bias before it adds.
NOISE = ("key_projection.bias", "downConv.bias", "norm2.bias")


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

    def fresh(self, **more):
        settings = {name: self.config[name] for name in SETTINGS & self.config.keys()}
        kind = self.config.get("model", "informer")
        return MODELS[kind](**settings, out_len=self.config["pred_len"], **more)

    def model(self, axis="time"):
        model = self.fresh(lip_axis=axis)
        tables = {
            k: v for k, v in model.state_dict().items() if k.endswith("position_embedding.pe")
        }
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


@pytest.fixture(params=["committed", "full"])
def folder(request):
    if request.param == "committed":
        return Path(__file__).parent / "golden"
    return request.getfixturevalue("golden")


@pytest.fixture(params=NAMES)
def case(request, folder):
    return Golden(folder / f"{request.param}.npz")


def test_state_is_the_original_codes(case):
    state = {k: tuple(v.shape) for k, v in case.model().state_dict().items()}
    d_model = case.config["d_model"]
    for side in ("enc", "dec"):
        assert state.pop(f"{side}_embedding.position_embedding.pe") == (1, 5000, d_model)
    assert state == {k: v.shape for k, v in case.under("w/").items()}


def test_frozen_tables_are_rebuilt_exactly(folder):
    case = Golden(folder / "informer_full.npz")
    tables = {k: v for k, v in case.under("w/").items() if k.endswith("_embed.emb.weight")}
    assert len(tables) == 8
    state = case.fresh().state_dict()
    for name, table in tables.items():
        agree(state[name], table, name)


@pytest.mark.parametrize("axis", AXES)
def test_evaluation(case, axis):
    model = case.model(axis).eval()
    torch.manual_seed(case.seed)
    with torch.no_grad():
        forecast = model(*case.inputs)
    agree(forecast.pred, case.arrays["eval/pred"])
    agree(forecast.embedded, case.arrays["eval/enc_embedding"])
    agree(forecast.lip, case.arrays[f"lip/{axis}"])
    if not case.config["output_attention"]:
        assert forecast.attns is None
        return
    assert len(forecast.attns) == case.config["e_layers"]
    maps = case.under("eval/attn/")
    assert maps
    for layer, golden in maps.items():
        agree(forecast.attns[int(layer)], golden, layer)


def test_key_draws(case):
    draws = case.under("index_sample/")
    assert bool(draws) == (case.config.get("attn") == "prob")
    sizes = {0: case.config["seq_len"], len(draws) - 1: case.inputs[2].shape[1]}
    torch.manual_seed(case.seed)
    for i in range(len(draws)):
        keys = sizes.setdefault(i, -(-sizes.get(i - 1, 0) // 2))
        golden = draws[str(i)]
        assert golden.shape[0] == keys
        assert np.array_equal(torch.randint(keys, golden.shape), golden)
    after_draws = torch.get_rng_state()
    model = case.model().eval()
    torch.manual_seed(case.seed)
    model(*case.inputs)  # in evaluation the forward pass draws these and nothing else
    assert torch.equal(torch.get_rng_state(), after_draws)


@pytest.mark.parametrize("axis", AXES)
def test_training_gradients(case, axis):
    model = case.model(axis).train()
    torch.manual_seed(case.seed)
    losses = dict(zip(("mse", "lip", "loss"), case.losses(model), strict=True))
    losses["loss"].backward()
    prefix = f"train_{axis}/" if "lam" in case.config else "train/"  # Autoformer's: loss = mse
    golden = case.under(prefix)
    for name in losses.keys() & golden.keys():
        agree(losses[name], golden[name], name)
    gradients = {k: p.grad for k, p in model.named_parameters() if p.requires_grad}
    for name, gradient in case.under(f"{prefix}grad/").items():
        agree(gradients[name], gradient, name)
    if "pred" in golden:
        agree(model(*case.inputs).pred, golden["pred"])


@pytest.mark.parametrize("axis", AXES)
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
