"""Layers and steps that give the same numbers in less time on a processor.

Each says how much longer a whole training step takes without it at 48/48/24 and 720/168/24 steps:
fp32, batch 32, d_model 512, two threads of an AMD EPYC with AVX-512, interleaved runs. The layers
compute in the number format of their input on weights that stay fp32.
"""

import contextlib
import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIECE_NUMBERS = 2**22  # of [B, L, width] that pass at once in a batch of more than the next
MAX_WHOLE_NUMBERS = 2**24


@cache
def has_bf16_kernels() -> bool:
    """Say whether torch has kernels for bf16 products on this processor, and not plain loops."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def keep_freed_memory() -> None:
    """Have glibc keep the process's freed memory for the next tensor: 1 % and 12 %.

    Otherwise large blocks go back to the system, which returns them page by page, zeroed.
    """
    with contextlib.suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: all blocks come from the heap
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap never shrinks


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve [B, L, c_in] along time with weights [c_out, c_in, kernel], without padding.

    Conv1d copies its input to [B, c_in, L]. An image one pixel high, channels second in shape but
    last in memory, is read as it lies. With `max_pool`: 4 % and 11 %. A linear layer's weights
    [c_out, c_in] are a kernel of 1: torch computes its fp32 products with MKL and a convolution's
    with oneDNN, which is much faster on this processor: 53 % and 56 %.
    """
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    kernel = weight.shape[2:].numel()
    if kernel == 1 and (x.device.type != "cpu" or x.dtype != torch.float32):
        return F.linear(x, weight.flatten(1), bias)
    image = x.transpose(1, 2).unsqueeze(2)  # [B, c_in, 1, L]
    weight = weight.view(*weight.shape[:2], 1, kernel)
    return F.conv2d(image, weight, bias).squeeze(2).transpose(1, 2)


def max_pool(x: Tensor) -> Tensor:
    """Give the largest of 3 steps, every second step: [B, L, D] to [B, ceil(L / 2), D]."""
    image = x.transpose(1, 2).unsqueeze(2)  # [B, D, 1, L], as in `convolve`
    pooled = F.max_pool2d(image, (1, 3), stride=(1, 2), padding=(0, 1))
    return pooled.squeeze(2).transpose(1, 2)


class Linear(nn.Linear):
    """A linear layer on the last axis of [B, L, C]."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, L, in_features] to [B, L, out_features]."""
        return convolve(input, self.weight, self.bias)


class TimeConv(nn.Conv1d):
    """A convolution of [B, L, C] along time whose ends meet: L stays L. Its kernel is odd."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, L, in_channels] to [B, L, out_channels]."""
        if reach := self.kernel_size[0] // 2:
            input = torch.cat([input[:, -reach:], input, input[:, :reach]], dim=1)
        return convolve(input, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation of the last axis; torch keeps its statistics in fp32."""

    def forward(self, input: Tensor) -> Tensor:
        """Keep the shape."""
        weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


def piecewise(function: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """Give function(x) of [B, L, C]; on a processor a large batch passes in pieces of windows.

    The width is the largest number of channels in between. At 720 steps the process peaks at 3.5
    instead of 4.6 GB, in the same time. Each piece draws its own dropout masks: the size of pieces
    is part of the results version.
    """
    numbers = x.shape[1] * width  # of one window
    if x.device.type != "cpu" or len(x) * numbers <= MAX_WHOLE_NUMBERS:
        return function(x)
    return torch.cat([function(piece) for piece in x.split(max(1, PIECE_NUMBERS // numbers))])


class Dropout(nn.Module):
    """Dropout whose mask is drawn several times faster than torch's: 13 % and 15 %.

    torch draws one number an element. Here one 64-bit draw of SFC64, seeded by torch's default
    generator, serves four elements, 16 bits each: the probability p in [0, 1) is rounded to a
    multiple of 2^-16, and what is kept is scaled by the probability after rounding.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape; in evaluation, or at p = 0, give x itself and draw nothing."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        dropped = min(round(self.p * 2**16), 2**16 - 1)  # of the 2^16 values of 16 bits
        source = np.random.SFC64(int(torch.randint(2**63 - 1, ())))
        draws = source.random_raw(-(-x.numel() // 4)).view(np.uint16)[: x.numel()]
        # Kept for the backward pass: one byte an element, a number and not a truth value, by which
        # torch multiplies more slowly.
        keep = torch.from_numpy((draws >= dropped).view(np.int8)).view(x.shape)
        return (x * keep).mul_(2**16 / (2**16 - dropped))
