"""What every registered model promises, and what is Informer's own."""

from typing import Any

import pytest
import torch
from torch import nn

from models import MODELS, Forecast, LipReg
from models.embed import DataEmbedding
from models.layers import Dropout, has_bf16_kernels

BATCH = 3
SIZES: dict[str, Any] = {"enc_in": 2, "dec_in": 2, "c_out": 1, "factor": 1, "moving_avg": 5}
SIZES |= {"seq_len": 16, "label_len": 6, "out_len": 5, "embed": "timeF", "freq": "h"}
SIZES |= {"d_model": 8, "n_heads": 2, "d_layers": 2, "d_ff": 12}
DEPTHS: dict[str, Any] = {"e_layers": 2, "s_layers": (3, 2, 1)}
USUAL = (16, 6, 5)
CASES = [  # input, label and forecast steps; series in and out; time embedding
    (USUAL, (3, 1), ("timeF", "h")),
    (USUAL, (3, 3), ("fixed", "t")),
    (USUAL, (2, 1), ("learned", "t")),
    ((9, 5, 21), (1, 1), ("timeF", "h")),
    ((12, 0, 3), (2, 1), ("learned", "h")),
]
# A query's softmax, batch norm or a mean over time removes again what these biases add.
UNREACHED = ("key_projection.bias", "query_projection.bias", "downConv.bias", "norm2.bias")
UNREACHED += ("layernorm.bias",)
every_model = pytest.mark.parametrize("name", MODELS)


def build(name="informer", **settings) -> Any:
    torch.manual_seed(0)
    depth = {"e_layers": DEPTHS[MODELS[name].depth]}
    return MODELS[name](**SIZES | depth | settings)


def batch(embed="timeF", freq="h", lengths=USUAL, width=2):
    generator = torch.Generator().manual_seed(1)

    def part(length):
        values = torch.randn(BATCH, length, width, generator=generator)
        marks = BATCH, length, 4 + (freq == "t")
        if embed != "timeF":
            return values, torch.randint(1, 4, marks, generator=generator)
        return values, torch.rand(marks, generator=generator) - 0.5

    return *part(lengths[0]), *part(lengths[1] + lengths[2])


def loss(forecast: Forecast):
    return forecast.pred.square().mean() - 2 * forecast.lip


@every_model
@pytest.mark.parametrize(("lengths", "widths", "time"), CASES)
def test_any_length_width_and_time_embedding(name, lengths, widths, time):
    sizes = dict(zip(("seq_len", "label_len", "out_len"), lengths, strict=True))
    sizes |= dict(zip(("enc_in", "dec_in", "c_out"), (widths[0], *widths), strict=True))
    sizes |= dict(zip(("embed", "freq"), time, strict=True))
    model = build(name, **sizes, output_attention=True, dropout=0.1)
    inputs = batch(*time, lengths=lengths, width=widths[0])
    for training in (False, True):
        forecast = model.train(training)(*inputs)
        assert forecast.pred.shape == (BATCH, lengths[2], widths[1])
        assert forecast.embedded.shape == (BATCH, lengths[0], 8)
        assert forecast.lip.shape == ()
        assert len(forecast.attns) == (6 if name == "informerstack" else 2)
        for maps in () if training else forecast.attns:
            torch.testing.assert_close(maps.sum(3), torch.ones(maps.shape[:3]))
    loss(forecast).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), key
            if lengths == USUAL and not key.endswith(UNREACHED):
                assert parameter.grad.abs().max() > 1e-7, key


@every_model
@pytest.mark.parametrize(("axis", "norm"), [("time", "max"), ("feature", "range")])
def test_lip_is_of_the_encoder_embedding_after_dropout(name, axis, norm):
    model, inputs = build(name, dropout=0.3, lip_axis=axis, lip_norm=norm).train(), batch()
    torch.manual_seed(1)
    forecast = model(*inputs)
    torch.manual_seed(1)
    h, lip = model.enc_embedding(*inputs[:2])
    assert (h == 0).any() and torch.equal(h, forecast.embedded)
    by_hand = LipReg(h, transpose=axis == "feature", normalize=norm)
    assert torch.equal(lip, forecast.lip) and torch.equal(lip, by_hand)
    weight = next(model.enc_embedding.parameters())
    one, other = (torch.autograd.grad(x, weight)[0] for x in (forecast.lip, by_hand))
    assert one.abs().max() > 0 and torch.equal(one, other)


@every_model
@pytest.mark.skipif(not has_bf16_kernels(), reason="no bf16 kernels on this processor")
def test_bf16_stays_close_to_fp32(name):
    forecasts, gradients = [], []
    # Sparse selection jumps where two queries are close: full attention, and all delays.
    settings = {"attn": "full", "factor": 100, "d_model": 32, "d_ff": 64, "output_attention": True}
    for amp in ("off", "bf16"):
        model = build(name, amp=amp, **settings).train()
        forecasts.append(model(*batch()))
        loss(forecasts[-1]).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        assert all(v.dtype != torch.bfloat16 for v in model.state_dict().values())
    full, half = forecasts
    assert half.pred.dtype == gradients[1].dtype == torch.float32
    assert torch.equal(full.lip, half.lip)
    assert not torch.equal(half.pred, half.pred.bfloat16().float())  # projected in fp32
    assert all(maps.dtype == torch.bfloat16 for maps in half.attns)
    torch.testing.assert_close(half.pred, full.pred, rtol=0, atol=0.03)
    assert nn.functional.cosine_similarity(*gradients, dim=0) > 0.999


def test_stack_joins_encoders_of_shorter_inputs():
    stack = build("informerstack", attn="full").eval()
    x = torch.randn(BATCH, 16, 8)
    joined, _ = stack.encoder(x)
    assert joined.shape == (BATCH, 4 + 4 + 4, 8)  # 16 -> 8 -> 4, last 8 -> 4, last 4
    parts = [encoder(x[:, -(16 >> i) :])[0] for i, encoder in enumerate(stack.encoder.encoders)]
    assert torch.equal(joined, torch.cat(parts, dim=1))


@pytest.mark.parametrize("embed", ["fixed", "learned"])
def test_calendar_tables(embed):
    embedding = DataEmbedding(2, 8, embed=embed, freq="t", dropout=0.0, positions=False).eval()
    tables = [*embedding.get_submodule("temporal_embedding").parameters()]
    assert [len(table) for table in tables] == [13, 32, 7, 24, 4]
    assert all(table.requires_grad == (embed == "learned") for table in tables)
    x, mark = torch.zeros(1, 2, 2), torch.tensor([[[12, 31, 6, 23, 3], [1, 1, 0, 0, 0]]])
    dated = embedding(x, mark)[0] - embedding.value_embedding(x)
    expected = sum(table[mark[0, :, i]] for i, table in enumerate(tables))
    torch.testing.assert_close(dated[0], expected, rtol=1e-4, atol=1e-5)


# The embeddings; attention (none inside ProbSparse), the activation and the feed-forward part; in
# the decoder self-attention, the cross-attention's weights and sum, and again a feed-forward part.
# Inside auto-correlation there is none, and Autoformer computes all the decoder's steps.
EMBEDDED, ENCODER = [(16, 8), (11, 8)], [(16, 8), (16, 12), (16, 8)]
DROPPED = {
    "informer": [*EMBEDDED, *ENCODER, (5, 8), (2, 5, 16), (5, 8), (5, 12), (5, 8)],
    "autoformer": [*EMBEDDED, *ENCODER, (11, 8), (11, 8), (11, 12), (11, 8)],
}


@pytest.mark.parametrize("name", DROPPED)
def test_dropout_stands_where_the_specification_puts_it(name):
    model = build(name, dropout=0.1, attn="prob", e_layers=1, d_layers=1).train()
    found = []
    for module in model.modules():
        if isinstance(module, Dropout):
            module.register_forward_hook(lambda m, args, y: found.append((tuple(y.shape[1:]), m.p)))
    model(*batch())
    assert found == [(shape, 0.1) for shape in DROPPED[name]]
