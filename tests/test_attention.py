"""ProbSparse and full attention against a plain reference written from the definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attn import AttentionLayer, FullAttention, ProbAttention, sparsity


def reference_measure(q, k, samples):
    """Gather every query's sampled keys and score those alone."""
    scores = torch.einsum("bhqe,bhque->bhqu", q, k[:, :, samples])
    return scores.max(3).values - scores.sum(3) / k.shape[2]


def reference(q, k, v, samples, *, active, masked):
    """One query at a time. Returns context, maps and the set of active queries per head."""
    batch, heads, length, width = q.shape
    ranked = reference_measure(q, k, samples).topk(active).indices
    context, maps = torch.empty_like(q), torch.full((batch, heads, length, k.shape[2]), math.nan)
    chosen = {}
    for b in range(batch):
        for h in range(heads):
            chosen[b, h] = set(ranked[b, h].tolist())
            for i in range(length):
                scores = k[b, h] @ q[b, h, i] / math.sqrt(width)
                if masked:
                    scores[i + 1 :] = -math.inf
                weights = scores.softmax(0)
                if i not in chosen[b, h]:
                    weights = torch.full_like(weights, 1 / k.shape[2])
                maps[b, h, i] = weights
                if masked and i not in chosen[b, h]:
                    context[b, h, i] = v[b, h, : i + 1].sum(0)
                else:
                    context[b, h, i] = weights @ v[b, h]
    return context, maps, chosen


def heads(*shape, integers=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if integers:  # small integers: sums are exact in any order, so selections must be equal
        return torch.randint(-4, 5, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, largest) for largest in (3, 3, 40, 8))),
    factor=st.integers(1, 6),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_probsparse_equals_the_reference(shape, factor, masked, seed):
    length = shape[2]
    q, k, v = (heads(*shape, integers=True, seed=seed + i) for i in range(3))
    count = max(1, min(factor * math.ceil(math.log(length)), length))
    torch.manual_seed(seed)
    samples = torch.randint(length, (length, count))
    assert torch.equal(sparsity(q, k, samples), reference_measure(q, k, samples))
    context, maps, chosen = reference(q, k, v, samples, active=count, masked=masked)
    torch.manual_seed(seed)
    ours, no_maps = ProbAttention(masked, factor)(q, k, v)
    torch.manual_seed(seed)
    ours_too, our_maps = ProbAttention(masked, factor, output_attention=True)(q, k, v)
    assert no_maps is None
    torch.testing.assert_close(ours, context, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours_too, context, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(our_maps, maps)
    if not masked:
        assert all(len(queries) == count for queries in chosen.values())


@settings(max_examples=25, deadline=None)
@given(queries=st.integers(2, 30), keys=st.integers(2, 30), seed=st.integers(0, 1000))
def test_measure_with_fewer_or_more_keys_than_queries(queries, keys, seed):
    q, k = heads(2, 2, queries, 4, seed=seed), heads(2, 2, keys, 4, seed=seed + 1)
    torch.manual_seed(seed)
    samples = torch.randint(keys, (queries, min(5, keys)))
    torch.testing.assert_close(sparsity(q, k, samples), reference_measure(q, k, samples))


def test_measure_in_blocks(monkeypatch):
    q, k = (heads(5, 2, 10, 8, integers=True, seed=i) for i in range(2))
    samples = torch.randint(10, (10, 4))
    for windows in (1, 2, 5):
        monkeypatch.setattr("models.attn.BLOCK", windows * 2 * 10 * 10)
        assert torch.equal(sparsity(q, k, samples), reference_measure(q, k, samples))


def test_selection_carries_no_gradient():
    q, k, v = (heads(2, 2, 16, 4, seed=i).requires_grad_() for i in range(3))
    torch.manual_seed(0)
    context, _ = ProbAttention(False, factor=1)(q, k, v)  # 3 of 16 queries are active
    context.square().sum().backward()
    touched = (q.grad != 0).any(3).sum(2)
    assert (touched == 3).all()
    assert not sparsity(q, k, torch.randint(16, (16, 3))).requires_grad


@pytest.mark.parametrize("masked", [True, False])
def test_full_attention(masked):
    q, k, v = (heads(2, 2, 9, 4, seed=i) for i in range(3))
    every_query = torch.zeros(9, 1, dtype=torch.long)
    context, maps, _ = reference(q, k, v, every_query, active=9, masked=masked)
    ours, none = FullAttention(masked, dropout=0.5).eval()(q, k, v)
    assert none is None
    torch.testing.assert_close(ours, context)
    ours, our_maps = FullAttention(masked, dropout=0.5, output_attention=True).eval()(q, k, v)
    torch.testing.assert_close(ours, context)
    torch.testing.assert_close(our_maps, maps)


def test_full_attention_drops_weights():
    q, k, v = (heads(4, 2, 30, 4, seed=i) for i in range(3))
    attention = FullAttention(False, dropout=0.25, output_attention=True).train()
    context, maps = attention(q, k, v)
    assert (maps == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(context, maps @ v)
    weights = FullAttention(False, dropout=0.0, output_attention=True)(q, k, v)[1]
    kept = maps != 0
    torch.testing.assert_close(maps[kept], weights[kept] / 0.75)


@pytest.mark.parametrize("mix", [True, False])
def test_layer_places_heads(mix):
    layer = AttentionLayer(FullAttention(True, dropout=0.0), d_model=8, n_heads=2, mix=mix)
    x = heads(3, 5, 8)
    q, k, v = (
        projection(x).view(3, 5, 2, 4).transpose(1, 2)
        for projection in (layer.query_projection, layer.key_projection, layer.value_projection)
    )
    context, _ = layer.inner_attention(q, k, v)  # [B, H, L, E]
    joined = context.contiguous().view(3, 5, 8) if mix else torch.cat(context.unbind(1), dim=-1)
    expected = layer.out_projection(joined)
    torch.testing.assert_close(layer(x, x)[0], expected)
    torch.testing.assert_close(layer(x, x, last=2)[0], expected[:, -2:])
