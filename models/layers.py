"""Layers that compute in the number format of their input, on weights that stay fp32.

In fp32 the casts below do nothing. In bf16 they round each weight once per use, and autograd
carries the gradient back to the fp32 weight that the optimizer steps.
"""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_Weight = TypeVar("_Weight", Tensor, Tensor | None)


def _like(x: Tensor, weight: _Weight) -> _Weight:
    return weight if weight is None else weight.to(x.dtype)


class Linear(nn.Linear):
    """A linear layer on the last axis."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [..., in_features] to [..., out_features]."""
        return F.linear(input, _like(input, self.weight), _like(input, self.bias))


class PointwiseConv(nn.Conv1d):
    """A kernel-1 convolution, stored as one and computed as the linear layer that it is."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, kernel_size=1)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, L, c_in] to [B, L, c_out]."""
        return F.linear(input, _like(input, self.weight[..., 0]), _like(input, self.bias))


class CircularConv(nn.Conv1d):
    """A kernel-3 convolution along time whose ends meet: L stays L."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, kernel_size=3)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, L, c_in] to [B, L, c_out]."""
        neighbours = [input.roll(1, dims=1), input, input.roll(-1, dims=1)]
        x = torch.cat(neighbours, dim=-1)  # [B, L, 3 * c_in]: step before, step, step after
        weight = self.weight.transpose(1, 2).flatten(1)  # [c_out, 3 * c_in], in the same order
        return F.linear(x, _like(x, weight), _like(x, self.bias))


class LayerNorm(nn.LayerNorm):
    """Layer normalisation of the last axis; torch keeps its statistics in fp32."""

    def forward(self, input: Tensor) -> Tensor:
        """Keep the shape."""
        weight, bias = _like(input, self.weight), _like(input, self.bias)
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)
