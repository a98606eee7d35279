"""Autoformer: a decomposed series, and auto-correlation in the place of attention.

Wu, Xu, Wang, Long: "Autoformer: Decomposition Transformers with Auto-Correlation for Long-Term
Series Forecasting", NeurIPS 2021. State keys and shapes are those of its authors' repository.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attn import AttentionLayer
from models.embed import DataEmbedding
from models.encoder import Encoder, EncoderLayer, FeedForward
from models.layers import LayerNorm, Linear, TimeConv
from models.model import Forecast, check_names


def decompose(x: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Split [B, L, D] into the rest and its moving average over an odd window, ends repeated."""
    reach = (window - 1) // 2
    ends = x[:, :1].expand(-1, reach, -1), x[:, -1:].expand(-1, reach, -1)
    padded = torch.cat([ends[0], x, ends[1]], dim=1)  # [B, L + window - 1, D]
    trend = F.avg_pool1d(padded.transpose(1, 2), window, stride=1).transpose(1, 2)
    return x - trend, trend


def seasonal_part(x: Tensor, window: int) -> Tensor:
    """Give what the moving average leaves of [B, L, D]."""
    return decompose(x, window)[0]


def correlate(q: Tensor, k: Tensor) -> Tensor:
    """Correlate [B, H, L, E] with [B, H, L, E] at every delay, averaged over heads and channels.

    Gives [B, L], fp32: at delay d the mean of sum_t q_{t+d} k_t.
    """
    # The mean of spectra is the spectrum of the mean: one inverse transform is enough.
    spectra = [torch.fft.rfft(x.transpose(2, 3).float()) for x in (q, k)]  # [B, H, E, L // 2 + 1]
    mean = (spectra[0] * spectra[1].conj()).mean(dim=(1, 2))  # [B, L // 2 + 1]
    return torch.fft.irfft(mean, n=q.shape[2])


class AutoCorrelation(nn.Module):
    """Average of the values at the int(factor * ln L) delays at which queries and keys agree best.

    The weighted sum of rolled values is one product with a circulant matrix, the attention map: at
    96 steps five times as fast as rolling the values delay by delay, and at 720 a third faster.
    """

    def __init__(self, factor: int, output_attention: bool = False) -> None:
        super().__init__()
        self.factor, self.output_attention = factor, output_attention

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map [B, H, L, E] to the same shape, and maps [B, 1, L, L], shared by all heads, or None.

        Keys and values [B, H, L_K, E] are cut to L or filled up with zeros.
        """
        heads, length = q.shape[1:3]
        k, v = (F.pad(x, (0, 0, 0, length - x.shape[2])) for x in (k, v))
        correlation = correlate(q, k)  # [B, L]
        count = max(1, min(int(self.factor * math.log(length)), length))
        best = correlation.mean(0, keepdim=True) if self.training else correlation
        delays = best.topk(count, dim=1).indices.expand(len(q), -1)  # [B, count]
        weights = correlation.gather(1, delays).softmax(dim=1)
        steps = torch.arange(length, device=q.device)
        delayed = (steps[:, None] + delays[:, None]) % length  # [B, L, count]
        maps = weights.new_zeros(len(q), length, length)
        maps = maps.scatter(2, delayed, weights[:, None].expand_as(delayed)).to(v.dtype)
        context = maps @ v.transpose(1, 2).flatten(2)  # [B, L, D]
        context = context.unflatten(2, (heads, -1)).transpose(1, 2)
        return context, maps[:, None] if self.output_attention else None


class SeasonalNorm(nn.Module):
    """LayerNorm minus its own mean over time."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.layernorm = LayerNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape [B, L, D]."""
        x = self.layernorm(x)
        return x - x.mean(dim=1, keepdim=True)


class DecoderLayer(FeedForward):
    """Self- and cross-auto-correlation and feed-forward; the three trends leave the layer."""

    def __init__(
        self,
        self_attention: AttentionLayer,
        cross_attention: AttentionLayer,
        window: int,
        c_out: int,
        **feed_forward: Any,
    ) -> None:
        super().__init__(**feed_forward)
        self.self_attention, self.cross_attention = self_attention, cross_attention
        self.projection = TimeConv(self.conv1.in_channels, c_out, 3, bias=False)
        self.window = window

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, L, d_model] to its seasonal part and the trend [B, L, c_out] taken from it."""
        attended, _ = self.self_attention(x, x)
        x, trend1 = decompose(x + self.dropout(attended), self.window)
        attended, _ = self.cross_attention(x, memory)
        x, trend2 = decompose(x + self.dropout(attended), self.window)
        x, trend3 = decompose(x + self.feed_forward(x), self.window)
        return x, self.projection(trend1 + trend2 + trend3)


class Decoder(nn.Module):
    """Decoder layers, which refine the trend, a final norm and the seasonal part's projection."""

    def __init__(self, layers: Sequence[DecoderLayer], d_model: int, c_out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = SeasonalNorm(d_model)
        self.projection = Linear(d_model, c_out)

    def forward(self, x: Tensor, memory: Tensor, trend: Tensor) -> Tensor:
        """Map [B, L, d_model] and a trend [B, L, c_out], fp32, to the series [B, L, c_out]."""
        for layer in self.layers:
            x, more = layer(x, memory)
            trend = trend + more
        return trend + self.projection(self.norm(x).to(trend.dtype))


class Autoformer(nn.Module):
    """Autoformer, with the Lipschitz Regularizer on the encoder's embedding.

    moving_avg is the window of the decompositions, odd; other arguments are Informer's.
    """

    def __init__(
        self,
        *,
        enc_in: int,
        dec_in: int,
        c_out: int,
        seq_len: int,
        label_len: int,
        out_len: int,
        moving_avg: int = 25,
        factor: int = 3,
        d_model: int = 512,
        n_heads: int = 8,
        e_layers: int = 2,
        d_layers: int = 1,
        d_ff: int = 2048,
        dropout: float = 0.05,
        embed: str = "timeF",
        freq: str = "h",
        activation: str = "gelu",
        output_attention: bool = False,
        lip_axis: str = "time",
        lip_norm: str = "max",
        amp: str = "off",
    ) -> None:
        super().__init__()
        check_names(embed=embed, activation=activation)
        check_names(lip_axis=lip_axis, lip_norm=lip_norm, amp=amp)
        self.label_len, self.out_len, self.c_out = label_len, out_len, c_out
        self.moving_avg, self.output_attention, self.amp = moving_avg, output_attention, amp
        embedding = partial(DataEmbedding, d_model=d_model, embed=embed, freq=freq)
        embedding = partial(embedding, dropout=dropout, bias=False, positions=False)
        self.enc_embedding = embedding(enc_in, lip_axis=lip_axis, lip_norm=lip_norm)
        self.dec_embedding = embedding(dec_in)
        layer: dict[str, Any] = {"d_model": d_model, "d_ff": d_ff, "dropout": dropout}
        layer |= {"activation": activation, "bias": False}
        seasonal = partial(seasonal_part, window=moving_avg)

        def attention(maps: bool = False) -> AttentionLayer:
            return AttentionLayer(AutoCorrelation(factor, maps), d_model, n_heads)

        def encoder_layer() -> EncoderLayer:
            return EncoderLayer(attention(output_attention), seasonal, seasonal, **layer)

        def decoder_layer() -> DecoderLayer:
            return DecoderLayer(attention(), attention(), moving_avg, c_out, **layer)

        encoder_layers = [encoder_layer() for _ in range(e_layers)]
        self.encoder = Encoder(encoder_layers, SeasonalNorm(d_model))
        self.decoder = Decoder([decoder_layer() for _ in range(d_layers)], d_model, c_out)

    def forward(
        self, x_enc: Tensor, x_mark_enc: Tensor, x_dec: Tensor, x_mark_dec: Tensor
    ) -> Forecast:
        """Forecast a batch of windows; arguments and result as Informer's.

        x_dec is not read: the decoder starts from the seasonal part and the trend of x_enc.
        """
        known, blank = x_enc.shape[1] - self.label_len, (0, 0, 0, self.out_len)
        seasonal, trend = decompose(x_enc, self.moving_avg)
        seasonal = F.pad(seasonal[:, known:], blank)  # [B, label_len + out_len, enc_in]
        mean = x_enc.mean(dim=1, keepdim=True).expand(-1, self.out_len, -1)
        trend = torch.cat([trend[:, known:], mean], dim=1)[..., -self.c_out :]  # the target is last
        h_enc, lip = self.enc_embedding(x_enc, x_mark_enc)
        h_dec, _ = self.dec_embedding(seasonal, x_mark_dec)
        dtype = torch.bfloat16 if self.amp == "bf16" else h_enc.dtype
        memory, attns = self.encoder(h_enc.to(dtype))
        series = self.decoder(h_dec.to(dtype), memory, trend)  # [B, label_len + out_len, c_out]
        pred = series[:, self.label_len :]
        return Forecast(pred, lip, attns if self.output_attention else None, h_enc)
