"""Informer's decoder: one pass gives all forecast steps."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from models.encoder import FeedForward
from models.layers import LayerNorm


class DecoderLayer(FeedForward):
    """Masked self-attention, cross-attention and feed-forward, each added and normalised."""

    def __init__(
        self, self_attention: nn.Module, cross_attention: nn.Module, d_model: int, **other: Any
    ) -> None:
        super().__init__(d_model, **other)
        self.self_attention, self.cross_attention = self_attention, cross_attention
        self.norm1, self.norm2, self.norm3 = (LayerNorm(d_model) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, last: int) -> Tensor:
        """Map [B, L, d_model] to its last steps [B, last, d_model], given the encoder's output."""
        attended, _ = self.self_attention(x, x, last)
        x = self.norm1(x[:, -last:] + self.dropout(attended))
        attended, _ = self.cross_attention(x, memory)
        x = self.norm2(x + self.dropout(attended))
        return self.norm3(x + self.feed_forward(x))


class Decoder(nn.Module):
    """Decoder layers and a final LayerNorm."""

    def __init__(self, layers: Sequence[DecoderLayer], d_model: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = LayerNorm(d_model)

    def forward(self, x: Tensor, memory: Tensor, out_len: int) -> Tensor:
        """Map [B, label_len + out_len, d_model] to the forecast steps [B, out_len, d_model].

        After the last self-attention no step looks at another one: from there on only the forecast
        steps are computed.
        """
        for layer in self.layers[:-1]:
            x = layer(x, memory, x.shape[1])
        return self.norm(self.layers[-1](x, memory, out_len))
