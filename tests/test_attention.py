"""ProbSparse and full attention against a plain reference written from the definition."""

import math
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attn import FullAttention, ProbAttention, sparsity


def reference_measure(q, k, samples):
    """Gather every query's sampled keys and score those alone."""
    scores = torch.einsum("bhqe,bhque->bhqu", q, k[:, :, samples])
    return scores.max(3).values - scores.sum(3) / k.shape[2]


def reference(q, k, v, samples, *, active, masked):
    """One query at a time: context and maps."""
    batch, heads, length, width = q.shape
    ranked = reference_measure(q, k, samples).topk(active).indices
    context, maps = torch.empty_like(q), torch.full((batch, heads, length, k.shape[2]), math.nan)
    for b in range(batch):
        for h in range(heads):
            chosen = ranked[b, h].tolist()
            for i in range(length):
                scores = k[b, h] @ q[b, h, i] / math.sqrt(width)
                if masked:
                    scores[i + 1 :] = -math.inf
                weights = scores.softmax(0)
                if i not in chosen:
                    weights = torch.full_like(weights, 1 / k.shape[2])
                maps[b, h, i] = weights
                if masked and i not in chosen:
                    context[b, h, i] = v[b, h, : i + 1].sum(0)
                else:
                    context[b, h, i] = weights @ v[b, h]
    return context, maps


def heads(*shape, integers=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if integers:  # small integers: sums are exact in any order, so selections must be equal
        return torch.randint(-4, 5, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, largest) for largest in (3, 3, 40, 8))),
    keys=st.integers(1, 40),
    factor=st.integers(1, 6),
    masked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_probsparse_equals_the_reference(shape, keys, factor, masked, seed):
    batch, n_heads, queries, width = shape
    keys = queries if masked else keys
    q = heads(*shape, integers=True, seed=seed)
    k, v = (heads(batch, n_heads, keys, width, integers=True, seed=seed + i) for i in (1, 2))
    drawn, active = (max(1, min(factor * math.ceil(math.log(n)), n)) for n in (keys, queries))
    torch.manual_seed(seed)
    samples = torch.randint(keys, (queries, drawn))
    for block in (2**22, 2 * n_heads * queries * keys):  # all windows at once, or two
        with mock.patch("models.attn.BLOCK", block):
            assert torch.equal(sparsity(q, k, samples), reference_measure(q, k, samples))
    context, maps = reference(q, k, v, samples, active=active, masked=masked)
    torch.manual_seed(seed)
    ours, our_maps = ProbAttention(masked, factor, output_attention=True)(q, k, v)
    torch.testing.assert_close(ours, context, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(our_maps, maps)
    torch.manual_seed(seed)
    again, none = ProbAttention(masked, factor)(q, k, v)
    assert none is None and torch.equal(again, ours)


@pytest.mark.parametrize("masked", [True, False])
def test_full_attention_equals_the_reference_and_drops_weights(masked):
    q, k, v = (heads(4, 2, 30, 4, seed=i) for i in range(3))
    every_query = torch.zeros(30, 1, dtype=torch.long)
    context, maps = reference(q, k, v, every_query, active=30, masked=masked)
    ours, none = FullAttention(masked, 0.25).eval()(q, k, v)
    torch.testing.assert_close(ours, context)
    assert none is FullAttention(masked, 0.25).train()(q, k, v)[1] is None
    attention = FullAttention(masked, 0.25, output_attention=True)
    for one, other in zip(attention.eval()(q, k, v), (context, maps), strict=True):
        torch.testing.assert_close(one, other)
    dropped, left = attention.train()(q, k, v)
    torch.testing.assert_close(dropped, left @ v)
    assert (left[maps > 0] != 0).float().mean().item() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(left[left != 0], maps[left != 0] / 0.75)
