"""Informer's encoder: attention layers with distilling between them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attn import AttentionLayer
from models.dropout import Dropout
from models.layers import CircularConv, LayerNorm, PointwiseConv

# Numbers of [B, L, d_ff] that are computed at a time where there are more than WHOLE: they stay in
# a processor's cache. What follows conv1 is made again in the backward pass, not kept for it.
PIECE = 2**22
WHOLE = 2**24


class FeedForward(nn.Module):
    """Base of both layers: two pointwise convolutions after the attention."""

    def __init__(self, d_model: int, d_ff: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.conv1 = PointwiseConv(d_model, d_ff)
        self.conv2 = PointwiseConv(d_ff, d_model)
        self.dropout = Dropout(dropout)
        self.activation: Callable[[Tensor], Tensor] = {"gelu": F.gelu, "relu": F.relu}[activation]

    def feed_forward(self, x: Tensor) -> Tensor:
        """Map [B, L, d_model] through d_ff channels and back."""
        width = x.shape[1] * self.conv1.out_channels  # numbers of a window
        if x.device.type != "cpu" or x.shape[0] * width <= WHOLE:
            return self.dropout(self._contract(self.conv1(x)))
        pieces = [
            checkpoint(self._contract, self.conv1(piece), use_reentrant=False)
            for piece in x.split(max(1, PIECE // width))
        ]
        return self.dropout(torch.cat(pieces))

    def _contract(self, h: Tensor) -> Tensor:
        """Map [B, L, d_ff], not yet activated, to [B, L, d_model]."""
        return self.conv2(self.dropout(self.activation(h)))


class EncoderLayer(FeedForward):
    """Self-attention and feed-forward, each added to its input and normalised.

    Args:
        attention: the self-attention with its projections.
        d_model: channels.
        d_ff: channels between the two pointwise convolutions.
        dropout: probability, in [0, 1).
        activation: "gelu" (exact) or "relu".
    """

    def __init__(
        self, attention: AttentionLayer, d_model: int, d_ff: int, dropout: float, activation: str
    ) -> None:
        super().__init__(d_model, d_ff, dropout, activation)
        self.attention = attention
        self.norm1 = LayerNorm(d_model)
        self.norm2 = LayerNorm(d_model)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map [B, L, d_model] to the same shape, and attention maps or None."""
        attended, maps = self.attention(x, x)
        x = self.norm1(x + self.dropout(attended))
        return self.norm2(x + self.feed_forward(x)), maps


class ConvLayer(nn.Module):
    """Distilling: convolution, batch norm, ELU and max-pooling halve the length."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.downConv = CircularConv(d_model, d_model)
        self.norm = nn.BatchNorm1d(d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, L, d_model] to [B, ceil(L / 2), d_model]."""
        x = self.downConv(x)
        x = self.norm(x.flatten(0, 1)).view(x.shape)
        # Channels second in shape but last in memory: torch pools such an image without a copy.
        x = x.transpose(1, 2).unsqueeze(2)  # [B, d_model, 1, L]
        # ELU rises everywhere, so pooling first gives the same values with half the ELUs.
        x = F.elu(F.max_pool2d(x, (1, 3), stride=(1, 2), padding=(0, 1)))
        return x.squeeze(2).transpose(1, 2)


class Encoder(nn.Module):
    """Attention layers, distilled in between, and a final LayerNorm.

    Args:
        layers: the attention layers.
        d_model: channels.
        distil: halve the length after every layer but the last.
    """

    def __init__(self, layers: list[EncoderLayer], d_model: int, distil: bool) -> None:
        super().__init__()
        self.attn_layers = nn.ModuleList(layers)
        halvings = len(layers) - 1 if distil else 0
        self.conv_layers = nn.ModuleList(ConvLayer(d_model) for _ in range(halvings))
        self.norm = LayerNorm(d_model)

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

    def __init__(self, encoders: list[Encoder]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Map [B, L, d_model] to the outputs joined along time, and the maps of all layers."""
        if x.shape[1] >> (len(self.encoders) - 1) == 0:
            raise ValueError(f"{x.shape[1]} steps are too few for {len(self.encoders)} encoders")
        outputs, maps = [], []
        for i, encoder in enumerate(self.encoders):
            y, attentions = encoder(x[:, -(x.shape[1] // 2**i) :])
            outputs.append(y)
            maps.extend(attentions)
        return torch.cat(outputs, dim=1), maps
