"""Layers that compute in the number format of their input, on weights that stay fp32.

In fp32 the casts below do nothing. In bf16 they round each weight once per use, and autograd
carries the gradient back to the fp32 weight that the optimizer steps.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@cache
def has_bf16_kernels() -> bool:
    """Say whether torch has kernels for bf16 products on this processor, and not plain loops."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def multiply(product: Callable[..., Tensor], x: Tensor, *factors: Tensor | None) -> Tensor:
    """Compute a product in the format of x; bf16 on a processor without kernels for it in fp32.

    There torch's own loops are many times slower than fp32. Two bf16 numbers multiply exactly in
    fp32, in which bf16 kernels add up as well: the results agree but for rounding.

    Args:
        product: multiplies, and may add.
        x: its first argument.
        factors: its further arguments, brought to the format of x.

    Returns:
        The product, in the format of x.
    """
    like_x = [_like(x, factor) for factor in factors]
    if x.device.type == "cpu" and x.dtype == torch.bfloat16 and not has_bf16_kernels():
        return product(x.float(), *(f if f is None else f.float() for f in like_x)).to(x.dtype)
    return product(x, *like_x)


def _like(x: Tensor, weight: Tensor | None) -> Tensor | None:
    return weight if weight is None else weight.to(x.dtype)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve [B, L, c_in] along time with weights [c_out, c_in, kernel], without padding."""
    # An image one pixel high, channels second in shape but last in memory: the layout that the
    # kernels read without a copy.
    image = x.transpose(1, 2).unsqueeze(2)  # [B, c_in, 1, L]
    return multiply(F.conv2d, image, weight.unsqueeze(2), bias).squeeze(2).transpose(1, 2)


def _project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply the last axis of [B, L, c_in] by weights [c_out, c_in]."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        # torch hands fp32 products to MKL, which takes twice the time on AMD's processors with
        # AVX-512, and convolutions (as it does bf16 products) to oneDNN, which is fast on all.
        return _convolve(x, weight.unsqueeze(2), bias)
    return multiply(F.linear, x, weight, bias)


class Linear(nn.Linear):
    """A linear layer on the last axis."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, L, in_features] to [B, L, out_features]."""
        return _project(input, self.weight, self.bias)


class PointwiseConv(nn.Conv1d):
    """A kernel-1 convolution: stored as one, the same as a linear layer."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, kernel_size=1)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, L, c_in] to [B, L, c_out]."""
        return _project(input, self.weight[..., 0], self.bias)


class CircularConv(nn.Conv1d):
    """A kernel-3 convolution along time whose ends meet: L stays L."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, kernel_size=3)

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, L, c_in] to [B, L, c_out]."""
        ring = torch.cat([input[:, -1:], input, input[:, :1]], dim=1)  # [B, L + 2, c_in]
        return _convolve(ring, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation of the last axis; torch keeps its statistics in fp32."""

    def forward(self, input: Tensor) -> Tensor:
        """Keep the shape."""
        weight, bias = _like(input, self.weight), _like(input, self.bias)
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)
