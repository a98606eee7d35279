"""ProbSparse and full attention, and the projections around them.

Shapes: B batch, L length, H heads, E = d_model / H. Both attentions map queries, keys and values
[B, H, L, E] to a context of the queries' shape and, with output_attention, to attention maps.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import Dropout, Linear

BLOCK = 2**22  # scores held at once while active queries are chosen: 16 MB of fp32, for a cache
GPU_BLOCK = 2**28  # 1 GB, for few launches: all of a batch of 32 up to 1,024 steps


@torch.no_grad()
def sparsity(q: Tensor, k: Tensor, samples: Tensor) -> Tensor:
    """Measure how far each query's scores stand out: largest sampled score - sum / L_K.

    From key indices [L_Q, U] it gives ProbSparse's measure M, [B, H, L_Q], fp32. Informer counts
    O(L log L), since a query is scored against its U sampled keys only. Fetching them,
    [B, H, L_Q, U, E], takes 4 to 12 times as long as scoring all keys in a dense product: so all
    scores are computed, a few windows at a time, and the sampled ones picked.
    """
    block = BLOCK if q.device.type == "cpu" else GPU_BLOCK
    windows = max(1, block // (q.shape[1] * q.shape[2] * k.shape[2]))  # of the batch, at a time
    blocks = []
    for queries, keys in zip(q.split(windows), k.split(windows), strict=True):
        scores = queries @ keys.transpose(2, 3)  # [windows, H, L_Q, L_K]
        sampled = scores.gather(3, samples.expand(*scores.shape[:2], -1, -1)).float()  # [.., U]
        blocks.append(sampled.amax(3) - sampled.sum(3) / k.shape[2])
    return torch.cat(blocks)


class ProbAttention(nn.Module):
    """ProbSparse attention: softmax for the most selective queries, a plain mean for the rest.

    min(factor * ceil(ln L), L) keys are sampled and as many queries are active. Masked, which
    needs as many queries as keys, a query sees no later key, and the mean becomes a running sum.
    """

    def __init__(self, masked: bool, factor: int, output_attention: bool = False) -> None:
        super().__init__()
        self.masked, self.factor, self.output_attention = masked, factor, output_attention

    def _count(self, length: int) -> int:
        return max(1, min(self.factor * math.ceil(math.log(length)), length))

    def draw(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """Draw the keys [queries, U] that each query is scored against, from the CPU's generator.

        They are the same on every device. The copy from pinned memory keeps no host waiting.
        """
        shape, pin = (queries, self._count(keys)), device.type == "cuda"
        return torch.randint(keys, shape, pin_memory=pin).to(device, non_blocking=True)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """Attend, with one sample of keys."""
        queries, keys = q.shape[2], k.shape[2]
        samples = self.draw(queries, keys, q.device)
        active = sparsity(q, k, samples).topk(self._count(queries), sorted=False).indices
        rows = active[..., None].expand(-1, -1, -1, q.shape[3])  # [B, H, u, E]
        visible = None
        if self.masked:
            visible = torch.arange(keys, device=q.device) <= active[..., None]  # [B, H, u, L_K]
            wide = torch.promote_types(v.dtype, torch.float32)  # CUDA sums bf16 in bf16
            lazy = v.to(wide).cumsum(dim=2).to(v.dtype)  # [B, H, L_Q, E]
        else:
            lazy = v.mean(dim=2, keepdim=True).expand_as(q)
        weights = _weights(q.gather(2, rows), k, visible)  # [B, H, u, L_K]
        context = lazy.scatter(2, rows, weights @ v)
        if not self.output_attention:
            return context, None
        maps = weights.new_full((*q.shape[:3], keys), 1 / keys)
        return context, maps.scatter(2, active[..., None].expand_as(weights), weights)


class FullAttention(nn.Module):
    """Softmax attention with dropout on its weights; masked, a query sees no later key."""

    def __init__(self, masked: bool, dropout: float, output_attention: bool = False) -> None:
        super().__init__()
        self.masked, self.output_attention = masked, output_attention
        self.dropout = Dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """Attend; maps are those after dropout."""
        visible = None
        if self.masked:
            visible = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        if not self.output_attention and not (self.training and self.dropout.p):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=visible), None
        weights = self.dropout(_weights(q, k, visible))  # [B, H, L_Q, L_K]
        return weights @ v, weights if self.output_attention else None


def _weights(q: Tensor, k: Tensor, visible: Tensor | None) -> Tensor:
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
    if visible is not None:
        scores = scores.masked_fill(~visible, -math.inf)
    return scores.softmax(dim=3)


class AttentionLayer(nn.Module):
    """Query, key, value and output projections around an attention.

    With mix, the context [B, H, L, E] is read as [B, L, d_model] without moving heads back.
    """

    def __init__(self, attention: nn.Module, d_model: int, n_heads: int, mix: bool = False) -> None:
        super().__init__()
        self.inner_attention = attention
        self.query_projection = Linear(d_model, d_model)
        self.key_projection = Linear(d_model, d_model)
        self.value_projection = Linear(d_model, d_model)
        self.out_projection = Linear(d_model, d_model)
        self.n_heads, self.mix = n_heads, mix

    def forward(
        self, x: Tensor, memory: Tensor, last: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from x [B, L, d_model] to memory [B, L_K, d_model].

        Gives the last steps (all, by default), [B, last, d_model], and maps [B, H, L, L_K] or None.
        """
        q = self._heads(self.query_projection(x))
        k = self._heads(self.key_projection(memory))
        v = self._heads(self.value_projection(memory))
        context, maps = self.inner_attention(q, k, v)  # [B, H, L, E]
        if not self.mix:
            context = context.transpose(1, 2)  # [B, L, H, E]
        context = context.reshape(x.shape)
        return self.out_projection(context[:, -(last or x.shape[1]) :]), maps

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.n_heads, -1)).transpose(1, 2)  # [B, H, L, E]
