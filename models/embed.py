"""From numbers and dates to the embedded input, and the regularizer's value on it."""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from models.layers import Dropout, Linear, TimeConv
from models.lipreg import LipReg
from utils.timefeatures import FEATURE_WIDTH, parse_freq

POSITIONS = 5000
CALENDAR = {"month": 13, "day": 32, "weekday": 7, "hour": 24, "minute": 4}  # column order


def sinusoids(length: int, d_model: int) -> Tensor:
    """Tabulate [length, d_model]: sine and cosine in turn, wavelengths 2 pi to 10,000 * 2 pi."""
    rates = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def named(**module: nn.Module) -> nn.Module:
    """Wrap a module under the name that it has in Informer2020's checkpoints."""
    return nn.Sequential(OrderedDict(module))


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
        embed: "timeF", or calendar tables, "fixed" or "learned", for a freq of "h" or "t".
        lip_axis: "time" (the definition), "feature" (the released experiment), or None: no LipReg.
        positions: add the table of positions, which is part of the state either way.
        others: sizes, LipReg's normalisation, and a bias in convolution and linear layer.
    """

    def __init__(
        self,
        c_in: int,
        d_model: int,
        *,
        embed: str,
        freq: str,
        dropout: float,
        lip_axis: str | None = None,
        lip_norm: str = "max",
        bias: bool = True,
        positions: bool = True,
    ) -> None:
        super().__init__()
        convolution = TimeConv(c_in, d_model, 3, bias=bias)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="leaky_relu")
        self.value_embedding = named(tokenConv=convolution)
        self.position_embedding = nn.Module()
        self.position_embedding.register_buffer("pe", sinusoids(POSITIONS, d_model)[None])
        freq = parse_freq(freq)
        self.temporal_embedding = (
            named(embed=Linear(FEATURE_WIDTH[freq], d_model, bias=bias))
            if embed == "timeF"
            else CalendarEmbedding(d_model, embed, freq)
        )
        self.dropout = Dropout(dropout)
        self.lip_axis, self.lip_norm, self.positions = lip_axis, lip_norm, positions

    def forward(self, x: Tensor, x_mark: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embed values [B, L, c_in] and time features [B, L, T].

        Gives h [B, L, d_model] after dropout, and LipReg(h), a scalar (None without lip_axis).
        """
        h = self.value_embedding(x) + self.temporal_embedding(x_mark)
        if self.positions:
            h = h + self.get_buffer("position_embedding.pe")[:, : x.shape[1]]
        h = self.dropout(h)
        if self.lip_axis is None:
            return h, None
        return h, LipReg(h, transpose=self.lip_axis == "feature", normalize=self.lip_norm)
