"""What every model promises, over the whole matrix of settings."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from models import MODELS, Forecast, Informer, InformerStack, LipReg
from models.decoder import DecoderLayer
from models.embed import DataEmbedding
from models.encoder import ConvLayer, FeedForward
from models.fast import Dropout

SEQ_LEN, LABEL_LEN, OUT_LEN, BATCH = 16, 6, 5, 3
SIZES: dict[str, Any] = {
    "enc_in": 2,
    "dec_in": 2,
    "c_out": 1,
    "seq_len": SEQ_LEN,
    "label_len": LABEL_LEN,
}
SIZES |= {"out_len": OUT_LEN, "factor": 1, "d_model": 8, "n_heads": 2, "d_layers": 2, "d_ff": 12}
SIZES |= {"embed": "timeF", "freq": "h"}
DEPTHS: dict[str, Any] = {"informer": 2, "informerstack": (3, 2, 1)}
TIMES = [("timeF", "h"), ("timeF", "t"), ("fixed", "h"), ("fixed", "t"), ("learned", "t")]


def build(name="informer", **settings) -> Any:
    torch.manual_seed(0)
    return MODELS[name](**SIZES | {"e_layers": DEPTHS[name]} | settings)


def batch(embed="timeF", freq="h", dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    width = 4 + (freq == "t")

    def marks(length):
        if embed == "timeF":
            return torch.rand(BATCH, length, width, generator=generator, dtype=dtype) - 0.5
        return torch.randint(1, 4, (BATCH, length, width), generator=generator)

    def values(length):
        return torch.randn(BATCH, length, 2, generator=generator, dtype=dtype)

    length = LABEL_LEN + OUT_LEN
    return values(SEQ_LEN), marks(SEQ_LEN), values(length), marks(length)


def loss(forecast: Forecast):
    return forecast.pred.square().mean() - 2 * forecast.lip


@pytest.mark.parametrize(("embed", "freq"), TIMES)
@pytest.mark.parametrize("attn", ["prob", "full"])
@pytest.mark.parametrize("name", MODELS)
def test_contract(name, attn, embed, freq):
    for distil, mix, maps in itertools.product([True, False], repeat=3):
        settings = {"attn": attn, "embed": embed, "freq": freq, "distil": distil, "mix": mix}
        model = build(name, dropout=0.1, output_attention=maps, **settings)
        forecast = model(*batch(embed, freq))
        assert forecast.pred.shape == (BATCH, OUT_LEN, 1)
        assert forecast.pred.dtype == forecast.lip.dtype == torch.float32
        assert forecast.lip.shape == ()
        depth = 2 if name == "informer" else 6
        assert forecast.attns is None or len(forecast.attns) == depth
        assert (forecast.attns is not None) == maps
        for attention in forecast.attns or []:
            assert attention.shape == (BATCH, 2, attention.shape[2], attention.shape[2])
        loss(forecast).backward()
        trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
        assert all(torch.isfinite(p.grad).all() for p in trained.values())
        keys = set(model.state_dict())
        assert any("conv_layers" in key for key in keys) == distil
        calendar = [key for key in keys if key.startswith("enc_embedding.temporal_embedding.")]
        assert len(calendar) == (2 if embed == "timeF" else 4 + (freq == "t"))


def test_state_loads_into_the_same_model_only():
    stack = build("informerstack")
    build("informerstack").load_state_dict(stack.state_dict(), strict=True)
    encoders = {key.split(".")[2] for key in stack.state_dict() if key.startswith("encoder.")}
    assert encoders == {"0", "1", "2"}
    assert all(k.startswith("encoder.encoders.") for k in stack.state_dict() if k[:8] == "encoder.")
    with pytest.raises(RuntimeError, match="Missing key"):
        build("informer").load_state_dict(stack.state_dict(), strict=True)


def test_stack_joins_encoders_of_shorter_inputs():
    stack = build("informerstack", attn="full").eval()
    x = torch.randn(BATCH, SEQ_LEN, 8)
    joined, _ = stack.encoder(x)
    assert joined.shape == (BATCH, 4 + 4 + 4, 8)  # 16 -> 8 -> 4, last 8 -> 4, last 4
    parts = [
        encoder(x[:, -(SEQ_LEN >> i) :])[0] for i, encoder in enumerate(stack.encoder.encoders)
    ]
    assert torch.equal(joined, torch.cat(parts, dim=1))


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


@pytest.mark.parametrize("axis", ["time", "feature"])
@pytest.mark.parametrize("norm", ["max", "range", "none"])
def test_lip_is_of_the_encoder_embedding_after_dropout(axis, norm):
    model = build(dropout=0.3, lip_axis=axis, lip_norm=norm).train()
    inputs = batch()
    torch.manual_seed(1)
    forecast = model(*inputs)
    torch.manual_seed(1)
    h, lip = model.enc_embedding(*inputs[:2])
    assert (h == 0).any()
    assert torch.equal(h, forecast.embedded) and torch.equal(lip, forecast.lip)
    assert torch.equal(lip, LipReg(h, transpose=axis == "feature", normalize=norm))
    assert model.dec_embedding(*inputs[2:])[1] is None


def test_dropout_stands_where_the_specification_puts_it():
    model = build(dropout=0.1, attn="prob", e_layers=1, d_layers=1).train()
    shapes = []
    for module in model.modules():
        if isinstance(module, Dropout):
            module.register_forward_hook(lambda m, args, y: shapes.append(tuple(y.shape[1:])))
    model(*batch())
    decoder = LABEL_LEN + OUT_LEN
    assert shapes == [
        (SEQ_LEN, 8),  # encoder embedding
        (decoder, 8),  # decoder embedding
        (SEQ_LEN, 8),  # attention, none inside ProbSparse
        (SEQ_LEN, 12),  # after the activation
        (SEQ_LEN, 8),  # feed-forward
        (OUT_LEN, 8),  # masked self-attention
        (2, OUT_LEN, SEQ_LEN),  # weights of the cross-attention
        (OUT_LEN, 8),  # cross-attention
        (OUT_LEN, 12),
        (OUT_LEN, 8),
    ]


def test_distilling_is_what_its_parts_say():
    layer: Any = ConvLayer(8).train()
    x = torch.randn(BATCH, 7, 8)
    padded = nn.functional.pad(x.transpose(1, 2), (1, 1), mode="circular")
    y = nn.functional.conv1d(padded, layer.downConv.weight, layer.downConv.bias)  # [B, D, L]
    y = nn.functional.batch_norm(y, None, None, layer.norm.weight, layer.norm.bias, training=True)
    expected = nn.functional.max_pool1d(nn.functional.elu(y), 3, stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected.transpose(1, 2), rtol=1e-4, atol=1e-5)
    assert layer.norm.num_batches_tracked.item() == 1
    assert layer.norm.running_mean.abs().sum() > 0


@pytest.mark.parametrize("attn", ["prob", "full"])
def test_skipping_the_label_steps_changes_nothing(attn):
    layer = build(attn=attn).decoder.layers[0]
    assert isinstance(layer, DecoderLayer)
    x, memory = torch.randn(BATCH, 11, 8), torch.randn(BATCH, 8, 8)
    torch.manual_seed(2)
    whole = layer(x, memory, 11)
    torch.manual_seed(2)
    torch.testing.assert_close(layer(x, memory, 4), whole[:, -4:])


@pytest.mark.parametrize("training", [True, False])
def test_forward_draws_keys_and_nothing_else(training):
    model = build(e_layers=2, d_layers=1).train(training)
    torch.manual_seed(5)
    for length, samples in ((16, 3), (8, 3), (11, 3)):
        torch.randint(length, (length, samples))
    after_draws = torch.get_rng_state()
    torch.manual_seed(5)
    model(*batch())
    assert torch.equal(torch.get_rng_state(), after_draws)


def test_seed_decides_a_training_pass():
    model = build(dropout=0.2).train()
    preds = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        preds.append(model(*batch()).pred)
    assert torch.equal(preds[0], preds[1])
    assert not torch.equal(preds[0], preds[2])


@pytest.mark.parametrize("name", MODELS)
def test_bf16_stays_close_to_fp32(name):
    forecasts, gradients = [], []
    for amp in ("off", "bf16"):
        model = build(name, attn="full", amp=amp, d_model=32, d_ff=64).train()
        forecast = model(*batch())
        loss(forecast).backward()
        forecasts.append(forecast)
        gradients.append({k: p.grad for k, p in model.named_parameters()})
        assert all(v.dtype != torch.bfloat16 for v in model.state_dict().values())
    full, half = forecasts
    assert torch.equal(full.lip, half.lip)
    assert half.pred.dtype == torch.float32
    assert not torch.equal(full.pred, half.pred)
    assert not torch.equal(half.pred, half.pred.bfloat16().float())  # projected in fp32
    torch.testing.assert_close(half.pred, full.pred, rtol=0, atol=0.03)
    flat = [torch.cat([g.flatten() for g in group.values()]) for group in gradients]
    assert flat[1].dtype == torch.float32
    assert nn.functional.cosine_similarity(*flat, dim=0) > 0.999


def test_bf16_trains_fp32_weights():
    model = build(amp="bf16", dropout=0.05, output_attention=True).train()
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    target = torch.ones(BATCH, OUT_LEN, 1)
    errors = []
    for _ in range(40):
        error = (model(*batch()).pred - target).square().mean()
        adam.zero_grad()
        error.backward()
        adam.step()
        errors.append(error.item())
    assert errors[-1] < 0.5 * errors[0]


def test_double_precision():
    model = build(attn="full").double().eval()
    inputs = batch(dtype=torch.float64)
    pred = model(*inputs).pred
    assert pred.dtype == torch.float64
    single = build(attn="full").eval()(*(x.float() for x in inputs)).pred
    torch.testing.assert_close(pred.float(), single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attn": "probe"}, "unknown attn 'probe': choose one of prob, full"),
        ({"activation": "elu"}, "unknown activation 'elu'"),
        ({"amp": "fp16"}, "unknown amp 'fp16'"),
        ({"embed": "timef"}, "unknown embed 'timef'"),
        ({"embed": "fixed", "freq": "d"}, "embed fixed knows freq h and t"),
        ({"lip_axis": "times"}, "unknown lip_axis 'times'"),
        ({"lip_norm": "min"}, "unknown lip_norm 'min'"),
        ({"d_model": 9, "n_heads": 3}, "d_model must be even"),
        ({"n_heads": 3}, "d_model 8 is no multiple of n_heads 3"),
        ({"dropout": 1.0}, "dropout must lie in"),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_inputs_longer_than_the_position_table():
    embedding = DataEmbedding(1, 4, embed="timeF", freq="h", dropout=0.0)
    with pytest.raises(ValueError, match="5001 steps: the position table ends at 5000"):
        embedding(torch.zeros(1, 5001, 1), torch.zeros(1, 5001, 4))


def test_stack_needs_steps_for_its_last_encoder():
    stack = build("informerstack")
    with pytest.raises(ValueError, match="3 steps are too few for 3 encoders"):
        stack.encoder(torch.zeros(1, 3, 8))


def test_default_depths():
    sizes = {**SIZES, "d_layers": 1}
    informer: Any = Informer(**sizes)
    assert len(informer.encoder.attn_layers) == 3
    stack: Any = InformerStack(**sizes)
    assert [len(encoder.attn_layers) for encoder in stack.encoder.encoders] == [3, 2, 1]


def test_piece_by_piece_the_feed_forward_part_is_the_same(monkeypatch):
    torch.manual_seed(0)
    layer = FeedForward(8, 16, 0.0, "gelu")
    x = torch.randn(7, 5, 8, requires_grad=True)
    outcomes = []
    for whole in (10**6, 0):
        monkeypatch.setattr("models.fast.WHOLE", whole)
        monkeypatch.setattr("models.fast.PIECE", 2 * 5 * 16)  # two windows, the last time one
        y = layer.feed_forward(x)
        outcomes.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other)
