"""From numbers and dates to the embedded input, and the regularizer's value on it."""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from models.fast import Dropout, Linear, TimeConv
from models.lipreg import LipReg
from utils.timefeatures import FEATURE_WIDTH, parse_freq

MAX_LENGTH = 5000
CALENDAR = {"month": 13, "day": 32, "weekday": 7, "hour": 24, "minute": 4}  # column order


def sinusoids(length: int, d_model: int) -> Tensor:
    """Tabulate sine (even channels) and cosine (odd), wavelengths 2 pi to 10,000 * 2 pi.

    Returns:
        [length, d_model], fp32.
    """
    rates = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def named(**module: nn.Module) -> nn.Module:
    """Wrap a module under the name that it has in Informer2020's checkpoints."""
    return nn.Sequential(OrderedDict(module))


class PositionalEmbedding(nn.Module):
    """The fixed table of positions, part of the state as in Informer2020's checkpoints."""

    pe: Tensor

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.register_buffer("pe", sinusoids(MAX_LENGTH, d_model)[None])

    def forward(self, length: int) -> Tensor:
        """Give the first rows, [1, length, d_model]."""
        if length > MAX_LENGTH:
            raise ValueError(f"{length} steps: the position table ends at {MAX_LENGTH}")
        return self.pe[:, :length]


class CalendarEmbedding(nn.Module):
    """Sum of one lookup table per calendar column: frozen sinusoids ("fixed") or "learned"."""

    def __init__(self, d_model: int, embed: str, freq: str) -> None:
        super().__init__()
        for name, size in CALENDAR.items():
            if name == "minute" and freq != "t":
                continue
            if embed == "fixed":
                table = named(emb=nn.Embedding.from_pretrained(sinusoids(size, d_model)))
            else:
                table = nn.Embedding(size, d_model)
            self.add_module(f"{name}_embed", table)

    def forward(self, x_mark: Tensor) -> Tensor:
        """Map integer columns [B, L, T] to [B, L, d_model]."""
        columns = zip(self.children(), x_mark.long().unbind(-1), strict=True)
        return torch.stack([table(column) for table, column in columns]).sum(0)


class DataEmbedding(nn.Module):
    """Value + position + time embedding with dropout, and the regularizer on the result.

    Args:
        c_in: number of input series.
        d_model: channels of the embedding, even.
        embed: "timeF", "fixed" or "learned" time embedding.
        freq: spacing of the time features, "h", "t", "15min", ...; fixed and learned know h and t.
        dropout: probability, in [0, 1).
        lip_axis: differences of LipReg along "time" (the definition) or "feature" (the released
            experiment); None computes no regularizer.
        lip_norm: normalisation of LipReg, "max", "range" or "none".
        bias: the value convolution and the time features' layer add a bias.
        positions: add the table of positions, which is part of the state either way.

    Raises:
        ValueError: an odd d_model, or a freq that the calendar tables do not know.
        UserError: an unknown freq.
    """

    def __init__(
        self,
        c_in: int,
        d_model: int,
        *,
        embed: str = "fixed",
        freq: str = "h",
        dropout: float = 0.1,
        lip_axis: str | None = None,
        lip_norm: str = "max",
        bias: bool = True,
        positions: bool = True,
    ) -> None:
        super().__init__()
        freq = parse_freq(freq)
        if embed != "timeF" and freq not in ("h", "t"):
            raise ValueError(f"embed {embed} knows freq h and t, not {freq!r}: choose timeF")
        if d_model % 2:
            raise ValueError(f"d_model must be even for sine and cosine pairs, got {d_model}")
        convolution = TimeConv(c_in, d_model, 3, bias=bias)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="leaky_relu")
        self.value_embedding = named(tokenConv=convolution)
        self.position_embedding = PositionalEmbedding(d_model)
        self.temporal_embedding = (
            named(embed=Linear(FEATURE_WIDTH[freq], d_model, bias=bias))
            if embed == "timeF"
            else CalendarEmbedding(d_model, embed, freq)
        )
        self.dropout = Dropout(dropout)
        self.lip_axis, self.lip_norm, self.positions = lip_axis, lip_norm, positions

    def forward(self, x: Tensor, x_mark: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed a batch of windows.

        Args:
            x: scaled values [B, L, c_in].
            x_mark: time features [B, L, T].

        Returns:
            h [B, L, d_model] after dropout, and LipReg(h), a scalar (None without lip_axis).
        """
        h = self.value_embedding(x) + self.temporal_embedding(x_mark)
        if self.positions:
            h = h + self.position_embedding(x.shape[1])
        h = self.dropout(h)
        if self.lip_axis is None:
            return h, None
        return h, LipReg(h, transpose=self.lip_axis == "feature", normalize=self.lip_norm)
