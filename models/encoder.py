"""Encoders: attention layers, with distilling between them in Informer's."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import Dropout, TimeConv, max_pool, piecewise

Norm = Callable[[Tensor], Tensor]


class FeedForward(nn.Module):
    """What encoder and decoder layers share: two pointwise convolutions after the attention."""

    def __init__(
        self, d_model: int, d_ff: int, dropout: float, activation: str, bias: bool = True
    ) -> None:
        super().__init__()
        self.conv1 = TimeConv(d_model, d_ff, 1, bias=bias)
        self.conv2 = TimeConv(d_ff, d_model, 1, bias=bias)
        self.dropout = Dropout(dropout)
        self.activation = {"gelu": F.gelu, "relu": F.relu}[activation]  # the exact gelu

    def feed_forward(self, x: Tensor) -> Tensor:
        """Map [B, L, d_model] through d_ff channels and back."""
        return self.dropout(piecewise(self._convolve, x, self.conv1.out_channels))

    def _convolve(self, x: Tensor) -> Tensor:
        return self.conv2(self.dropout(self.activation(self.conv1(x))))


class EncoderLayer(FeedForward):
    """Self-attention and feed-forward, each added and normalised."""

    def __init__(self, attention: nn.Module, norm1: Norm, norm2: Norm, **feed_forward: Any) -> None:
        super().__init__(**feed_forward)
        self.attention, self.norm1, self.norm2 = attention, norm1, norm2

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map [B, L, d_model] to the same shape, and attention maps or None."""
        attended, maps = self.attention(x, x)
        x = self.norm1(x + self.dropout(attended))
        return self.norm2(x + self.feed_forward(x)), maps


class ConvLayer(nn.Module):
    """Distilling: convolution, batch norm, ELU and max-pooling halve the length."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.downConv = TimeConv(d_model, d_model, 3)
        self.norm = nn.BatchNorm1d(d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, d_model] to [B, ceil(L / 2), d_model]."""
        x = self.downConv(x)
        x = self.norm(x.flatten(0, 1)).view(x.shape)
        return F.elu(max_pool(x))  # ELU rises everywhere: it may as well come after the pooling


class Encoder(nn.Module):
    """Layers, the first of them each followed by its distilling layer, and a final norm."""

    def __init__(
        self, layers: Sequence[nn.Module], norm: nn.Module, distilling: Sequence[ConvLayer] = ()
    ) -> None:
        super().__init__()
        self.attn_layers = nn.ModuleList(layers)
        self.conv_layers = nn.ModuleList(distilling)
        self.norm = norm

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Map [B, L, d_model] to [B, L', d_model], and the maps of each layer (or Nones)."""
        maps = []
        for i, layer in enumerate(self.attn_layers):
            x, attention = layer(x)
            maps.append(attention)
            if i < len(self.conv_layers):
                x = self.conv_layers[i](x)
        return self.norm(x), maps


class EncoderStack(nn.Module):
    """InformerStack's encoders: the i-th, from 0, reads the last L // 2^i steps."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Map [B, L, d_model] to the outputs joined along time, and the maps of all layers."""
        length = x.shape[1]
        outputs = [e(x[:, length - length // 2**i :]) for i, e in enumerate(self.encoders)]
        maps = [one for _, of_encoder in outputs for one in of_encoder]
        return torch.cat([y for y, _ in outputs], dim=1), maps
