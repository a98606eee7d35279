"""What every registered model promises, and what is Informer's own."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from models import MODELS, Forecast, Informer, InformerStack, LipReg
from models.decoder import DecoderLayer
from models.embed import DataEmbedding
from models.fast import Dropout, has_bf16_kernels

BATCH = 3
SIZES: dict[str, Any] = {"enc_in": 2, "dec_in": 2, "c_out": 1, "factor": 1, "moving_avg": 5}
SIZES |= {"seq_len": 16, "label_len": 6, "out_len": 5, "embed": "timeF", "freq": "h"}
SIZES |= {"d_model": 8, "n_heads": 2, "d_layers": 2, "d_ff": 12}
DEPTHS: dict[str, Any] = {"e_layers": 2, "s_layers": (3, 2, 1)}
TIMES = [("timeF", "h"), ("timeF", "t"), ("fixed", "h"), ("fixed", "t"), ("learned", "t")]
LENGTHS = [(16, 6, 5), (9, 5, 21), (11, 11, 2), (12, 0, 3)]  # input, label, forecast
WIDTHS = [(1, 1), (3, 3), (3, 1)]  # S, M, MS
# A query's softmax, batch norm or a mean over time removes again what these biases add.
UNREACHED = ("key_projection.bias", "query_projection.bias", "downConv.bias", "norm2.bias")
UNREACHED += ("layernorm.bias",)
every_model = pytest.mark.parametrize("name", MODELS)


def build(name="informer", **settings) -> Any:
    torch.manual_seed(0)
    depth = {"e_layers": DEPTHS[MODELS[name].depth]}
    return MODELS[name](**SIZES | depth | settings)


def batch(embed="timeF", freq="h", dtype=torch.float32, lengths=LENGTHS[0], width=2):
    generator = torch.Generator().manual_seed(1)

    def part(length):
        values = torch.randn(BATCH, length, width, generator=generator, dtype=dtype)
        marks = BATCH, length, 4 + (freq == "t")
        if embed != "timeF":
            return values, torch.randint(1, 4, marks, generator=generator)
        return values, torch.rand(marks, generator=generator, dtype=dtype) - 0.5

    return *part(lengths[0]), *part(lengths[1] + lengths[2])


def loss(forecast: Forecast):
    return forecast.pred.square().mean() - 2 * forecast.lip


@every_model
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("width", "c_out"), WIDTHS)
def test_any_width_and_length(name, lengths, width, c_out):
    sizes = dict(zip(("seq_len", "label_len", "out_len"), lengths, strict=True))
    model = build(name, **sizes, enc_in=width, dec_in=width, c_out=c_out, dropout=0.1)
    inputs = batch(lengths=lengths, width=width)
    for training in (False, True):
        forecast = model.train(training)(*inputs)
        assert forecast.pred.shape == (BATCH, lengths[2], c_out)
        assert forecast.embedded.shape == (BATCH, lengths[0], 8)
        assert forecast.lip.shape == () and forecast.attns is None
        assert forecast.pred.dtype == forecast.lip.dtype == torch.float32
    loss(forecast).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key


@every_model
@pytest.mark.parametrize(("embed", "freq"), TIMES)
def test_any_time_embedding(name, embed, freq):
    model = build(name, embed=embed, freq=freq, output_attention=True, dropout=0.1)
    forecast = model.eval()(*batch(embed, freq))
    assert len(forecast.attns) == (6 if name == "informerstack" else 2)
    for maps in forecast.attns:
        assert maps.shape[0] == BATCH and maps.shape[2] == maps.shape[3]
        torch.testing.assert_close(maps.sum(3), torch.ones(maps.shape[:3]))
    loss(model.train()(*batch(embed, freq))).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad and not key.endswith(UNREACHED):
            assert parameter.grad.abs().max() > 1e-7, key
    tables = {k for k in model.state_dict() if k.startswith("enc_embedding.temporal_embedding.")}
    biases = name in ("informer", "informerstack")
    assert len(tables) == (1 + biases if embed == "timeF" else 4 + (freq == "t"))


@every_model
@pytest.mark.parametrize("axis", ["time", "feature"])
@pytest.mark.parametrize("norm", ["max", "range", "none"])
def test_lip_is_of_the_encoder_embedding_after_dropout(name, axis, norm):
    model = build(name, dropout=0.3, lip_axis=axis, lip_norm=norm).train()
    inputs = batch()
    torch.manual_seed(1)
    forecast = model(*inputs)
    torch.manual_seed(1)
    h, lip = model.enc_embedding(*inputs[:2])
    assert (h == 0).any()
    assert torch.equal(h, forecast.embedded) and torch.equal(lip, forecast.lip)
    assert torch.equal(lip, LipReg(h, transpose=axis == "feature", normalize=norm))
    assert model.dec_embedding(*inputs[2:])[1] is None


@every_model
def test_the_same_numbers_twice_and_after_saving(name, tmp_path):
    model = build(name, dropout=0.2).train()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = build(name, dropout=0.2)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_()
    other.load_state_dict(torch.load(tmp_path / "weights.pt"), strict=True)
    preds = []
    for seed, one in ((1, model), (1, model), (1, other), (2, model)):
        torch.manual_seed(seed)
        preds.append(one(*batch()).pred)
    assert torch.equal(preds[0], preds[1]) and torch.equal(preds[0], preds[2])
    assert not torch.equal(preds[0], preds[3])


@every_model
def test_a_state_loads_into_the_same_model_only(name):
    state = build(name).state_dict()
    for other in MODELS:
        if other != name:
            with pytest.raises(RuntimeError, match="Error"):
                build(other).load_state_dict(state, strict=True)


@every_model
def test_a_training_step_lowers_the_loss(name):
    model, target = build(name), torch.ones(BATCH, 5, 1)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    errors = []
    for _ in range(40):
        error = (model(*batch()).pred - target).square().mean()
        adam.zero_grad()
        error.backward()
        adam.step()
        errors.append(error.item())
    assert errors[-1] < 0.7 * errors[0]


@every_model
@pytest.mark.skipif(not has_bf16_kernels(), reason="no bf16 kernels on this processor")
def test_bf16_stays_close_to_fp32(name):
    forecasts, gradients = [], []
    # Sparse selection jumps where two queries are close: full attention, and all delays.
    settings = {"attn": "full", "factor": 100, "d_model": 32, "d_ff": 64, "output_attention": True}
    for amp in ("off", "bf16"):
        model = build(name, amp=amp, **settings).train()
        forecast = model(*batch())
        loss(forecast).backward()
        forecasts.append(forecast)
        gradients.append({k: p.grad for k, p in model.named_parameters()})
        assert all(v.dtype != torch.bfloat16 for v in model.state_dict().values())
    full, half = forecasts
    assert torch.equal(full.lip, half.lip)
    assert half.pred.dtype == torch.float32
    assert not torch.equal(half.pred, half.pred.bfloat16().float())  # projected in fp32
    assert all(maps.dtype == torch.bfloat16 for maps in half.attns)
    torch.testing.assert_close(half.pred, full.pred, rtol=0, atol=0.03)
    flat = [torch.cat([g.flatten() for g in group.values()]) for group in gradients]
    assert flat[1].dtype == torch.float32
    assert nn.functional.cosine_similarity(*flat, dim=0) > 0.999


@every_model
def test_double_precision(name):
    model = build(name, attn="full", factor=100).eval()
    inputs = batch(dtype=torch.float64)
    single = model(*(x.float() for x in inputs)).pred
    pred = model.double()(*inputs).pred
    assert pred.dtype == torch.float64
    torch.testing.assert_close(pred.float(), single, rtol=1e-4, atol=1e-5)


@every_model
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "elu"}, "unknown activation 'elu': choose one of gelu, relu"),
        ({"amp": "fp16"}, "unknown amp 'fp16'"),
        ({"embed": "timef"}, "unknown embed 'timef'"),
        ({"embed": "fixed", "freq": "d"}, "embed fixed knows freq h and t"),
        ({"lip_axis": "times"}, "unknown lip_axis 'times'"),
        ({"lip_norm": "min"}, "unknown lip_norm 'min'"),
        ({"d_model": 9, "n_heads": 3}, "d_model must be even"),
        ({"n_heads": 3}, "d_model 8 is no multiple of n_heads 3"),
        ({"dropout": 1.0}, "dropout must lie in"),
        ({"attn": "probe"}, "unknown attn 'probe'"),
        ({"moving_avg": 4}, "moving_avg must be odd and positive, got 4"),
        ({"moving_avg": -1}, "moving_avg must be odd and positive"),
    ],
)
def test_errors(name, settings, message):
    if settings.keys() & set(MODELS[name].unused):
        build(name, **settings)
        return
    with pytest.raises(ValueError, match=message):
        build(name, **settings)


def test_rows_name_their_own_settings():
    assert all(not row.defaults.keys() & row.presumed.keys() for row in MODELS.values())
    autoformer = MODELS["autoformer"]
    assert autoformer.defaults == {"seq_len": 96}
    presumed = {"label_len": 48, "train_epochs": 10, "factor": 3, "moving_avg": 25}
    assert presumed.items() <= autoformer.presumed.items()
    assert MODELS["informer"].defaults == MODELS["informer"].presumed == {}


@pytest.mark.parametrize("name", ["informer", "informerstack"])
def test_switches_of_informer(name):
    for attn, distil, mix in itertools.product(["prob", "full"], [True, False], [True, False]):
        model = build(name, attn=attn, distil=distil, mix=mix, dropout=0.1)
        loss(model(*batch())).backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
        assert any("conv_layers" in key for key in model.state_dict()) == distil
        assert all(layer.self_attention.mix == mix for layer in model.decoder.layers)


def test_stack_joins_encoders_of_shorter_inputs():
    stack = build("informerstack", attn="full").eval()
    x = torch.randn(BATCH, 16, 8)
    joined, _ = stack.encoder(x)
    assert joined.shape == (BATCH, 4 + 4 + 4, 8)  # 16 -> 8 -> 4, last 8 -> 4, last 4
    parts = [encoder(x[:, -(16 >> i) :])[0] for i, encoder in enumerate(stack.encoder.encoders)]
    assert torch.equal(joined, torch.cat(parts, dim=1))
    assert {k.split(".")[2] for k in stack.state_dict() if k[:8] == "encoder."} == {"0", "1", "2"}
    with pytest.raises(ValueError, match="3 steps are too few for 3 encoders"):
        stack.encoder(torch.zeros(1, 3, 8))


@pytest.mark.parametrize("embed", ["fixed", "learned"])
def test_calendar_tables(embed):
    sizes = {"month": 13, "day": 32, "weekday": 7, "hour": 24, "minute": 4}
    embedding = DataEmbedding(2, 8, embed=embed, freq="t", dropout=0.0).eval()
    suffix = ".emb.weight" if embed == "fixed" else ".weight"
    tables = {
        name: dict(embedding.named_parameters())[f"temporal_embedding.{name}_embed{suffix}"]
        for name in sizes
    }
    assert {name: len(table) for name, table in tables.items()} == sizes
    assert all(table.requires_grad == (embed == "learned") for table in tables.values())
    x, mark = torch.zeros(1, 2, 2), torch.tensor([[[12, 31, 6, 23, 3], [1, 1, 0, 0, 0]]])
    h, _ = embedding(x, mark)
    plain = embedding.value_embedding(x) + embedding.position_embedding(2)
    expected = sum(table[mark[0, :, i]] for i, table in enumerate(tables.values()))
    torch.testing.assert_close((h - plain)[0], expected, rtol=1e-4, atol=1e-5)


def test_positions_end_at_5000():
    embedding = DataEmbedding(1, 4, embed="timeF", freq="h", dropout=0.0)
    with pytest.raises(ValueError, match="5001 steps: the position table ends at 5000"):
        embedding(torch.zeros(1, 5001, 1), torch.zeros(1, 5001, 4))


DROPPED = {
    "informer": [
        (16, 8),  # encoder embedding
        (11, 8),  # decoder embedding
        (16, 8),  # attention, none inside ProbSparse
        (16, 12),  # after the activation
        (16, 8),  # feed-forward
        (5, 8),  # masked self-attention
        (2, 5, 16),  # weights of the cross-attention
        (5, 8),  # cross-attention
        (5, 12),
        (5, 8),
    ],
    # Inside auto-correlation there is none, and all the decoder's steps are computed.
    "autoformer": [(16, 8), (11, 8), (16, 8), (16, 12), (16, 8), *[(11, 8)] * 2, (11, 12), (11, 8)],
}


@pytest.mark.parametrize("name", DROPPED)
def test_dropout_stands_where_the_specification_puts_it(name):
    model = build(name, dropout=0.1, attn="prob", e_layers=1, d_layers=1).train()
    shapes = []
    for module in model.modules():
        if isinstance(module, Dropout):
            module.register_forward_hook(lambda m, args, y: shapes.append(tuple(y.shape[1:])))
    model(*batch())
    assert shapes == DROPPED[name]


@pytest.mark.parametrize("attn", ["prob", "full"])
def test_skipping_the_label_steps_changes_nothing(attn):
    layer = build(attn=attn).decoder.layers[0]
    assert isinstance(layer, DecoderLayer)
    x, memory = torch.randn(BATCH, 11, 8), torch.randn(BATCH, 8, 8)
    torch.manual_seed(2)
    whole = layer(x, memory, 11)
    torch.manual_seed(2)
    torch.testing.assert_close(layer(x, memory, 4), whole[:, -4:])


def test_default_depths():
    sizes = {k: v for k, v in SIZES.items() if k != "moving_avg"}
    informer: Any = Informer(**sizes)
    assert len(informer.encoder.attn_layers) == 3
    stack: Any = InformerStack(**sizes)
    assert [len(encoder.attn_layers) for encoder in stack.encoder.encoders] == [3, 2, 1]
