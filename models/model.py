"""Informer and InformerStack, with the Lipschitz Regularizer on the encoder's embedding."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.attn import AttentionLayer, FullAttention, ProbAttention
from models.decoder import Decoder, DecoderLayer
from models.embed import DataEmbedding
from models.encoder import ConvLayer, Encoder, EncoderLayer, EncoderStack
from models.fast import LayerNorm, Linear
from models.lipreg import NORMALISATIONS

NAMES = {
    "attn": ("prob", "full"),
    "embed": ("timeF", "fixed", "learned"),
    "activation": ("gelu", "relu"),
    "lip_axis": ("time", "feature"),
    "lip_norm": NORMALISATIONS,
    "amp": ("off", "bf16"),
}


class Forecast(NamedTuple):
    """What every model's forward pass gives.

    Attributes:
        pred: forecast of the scaled series [B, out_len, c_out], fp32.
        lip: LipReg of the encoder's embedding, an fp32 scalar.
        attns: maps [B, H, L, L] of each encoder layer, or None unless output_attention.
        embedded: the encoder's embedded input [B, seq_len, d_model] after dropout.
    """

    pred: Tensor
    lip: Tensor
    attns: list[Tensor] | None
    embedded: Tensor


def check_names(**chosen: str) -> None:
    """Check settings that are one of a few names.

    Raises:
        ValueError: an unknown name.
    """
    for setting, name in chosen.items():
        if name not in NAMES[setting]:
            known = ", ".join(NAMES[setting])
            raise ValueError(f"unknown {setting} {name!r}: choose one of {known}")


class Informer(nn.Module):
    """Informer (Zhou et al., AAAI 2021). State keys and shapes are those of Informer2020.

    Args:
        enc_in, dec_in, c_out: number of series read by encoder and decoder, and forecast.
        seq_len, label_len: input steps, and observed ones at the decoder's start; for the record.
        out_len: forecast steps.
        factor: ProbSparse sampling factor c.
        d_model, d_ff, n_heads: channels, those inside the feed-forward part, and attention heads.
        e_layers, d_layers: number of encoder and decoder layers.
        dropout: probability, in [0, 1).
        attn: self-attention, "prob" or "full".
        embed, freq: time embedding ("timeF", "fixed", "learned"), and spacing of its features.
        activation: "gelu" or "relu".
        output_attention: return the encoder's attention maps.
        distil: halve the length between encoder layers.
        mix: the decoder's self-attention mixes heads and steps.
        lip_axis, lip_norm: LipReg's axis ("time", "feature") and normalisation ("max", "range",
            "none").
        amp: "bf16" runs encoder and decoder in bfloat16 on fp32 weights; "off" all in fp32.
        embed_bias: the embeddings' layers add a bias.

    Raises:
        ValueError: sizes that do not fit together, or an unknown name.
    """

    def __init__(  # noqa: PLR0917 - Informer2020's order
        self,
        enc_in: int,
        dec_in: int,
        c_out: int,
        seq_len: int,
        label_len: int,
        out_len: int,
        factor: int = 5,
        d_model: int = 512,
        n_heads: int = 8,
        e_layers: int | Sequence[int] = 3,
        d_layers: int = 2,
        d_ff: int = 512,
        dropout: float = 0.0,
        attn: str = "prob",
        embed: str = "fixed",
        freq: str = "h",
        activation: str = "gelu",
        output_attention: bool = False,
        distil: bool = True,
        mix: bool = True,
        *,
        lip_axis: str = "time",
        lip_norm: str = "max",
        amp: str = "off",
        embed_bias: bool = True,
    ) -> None:
        super().__init__()
        check_names(attn=attn, embed=embed, activation=activation, amp=amp)
        check_names(lip_axis=lip_axis, lip_norm=lip_norm)
        self.out_len, self.output_attention, self.amp = out_len, output_attention, amp
        time: dict[str, Any] = {"embed": embed, "freq": freq, "dropout": dropout}
        time["bias"] = embed_bias
        lip: dict[str, Any] = {"lip_axis": lip_axis, "lip_norm": lip_norm}
        self.enc_embedding = DataEmbedding(enc_in, d_model, **time, **lip)
        self.dec_embedding = DataEmbedding(dec_in, d_model, **time)
        layer: dict[str, Any] = {"d_ff": d_ff, "dropout": dropout, "activation": activation}

        def self_attention(masked: bool, maps: bool, mix: bool) -> AttentionLayer:
            prob, full = ProbAttention(masked, factor, maps), FullAttention(masked, dropout, maps)
            return AttentionLayer(prob if attn == "prob" else full, d_model, n_heads, mix)

        def encoder(depth: int) -> Encoder:
            attentions = [self_attention(False, output_attention, False) for _ in range(depth)]
            layers = [EncoderLayer(attention, d_model, **layer) for attention in attentions]
            distilling = [ConvLayer(d_model) for _ in range(depth - 1 if distil else 0)]
            return Encoder(layers, LayerNorm(d_model), distilling)

        def decoder_layer() -> DecoderLayer:
            cross_attention = AttentionLayer(FullAttention(False, dropout), d_model, n_heads)
            return DecoderLayer(self_attention(True, False, mix), cross_attention, d_model, **layer)

        stack = not isinstance(e_layers, int)
        self.encoder = EncoderStack(list(map(encoder, e_layers))) if stack else encoder(e_layers)
        self.decoder = Decoder([decoder_layer() for _ in range(d_layers)], d_model)
        self.projection = Linear(d_model, c_out)

    def forward(
        self, x_enc: Tensor, x_mark_enc: Tensor, x_dec: Tensor, x_mark_dec: Tensor
    ) -> Forecast:
        """Forecast a batch of windows.

        Args:
            x_enc: scaled input [B, seq_len, enc_in].
            x_mark_enc: its time features [B, seq_len, T].
            x_dec: last label_len observed steps, then padding [B, label_len + out_len, dec_in].
            x_mark_dec: their time features [B, label_len + out_len, T].

        Returns:
            Forecast of out_len steps.
        """
        h_enc, lip = self.enc_embedding(x_enc, x_mark_enc)
        h_dec, _ = self.dec_embedding(x_dec, x_mark_dec)
        dtype = torch.bfloat16 if self.amp == "bf16" else h_enc.dtype
        memory, attns = self.encoder(h_enc.to(dtype))
        h = self.decoder(h_dec.to(dtype), memory, self.out_len)
        pred = self.project(h.to(h_enc.dtype))  # [B, out_len, c_out]
        return Forecast(pred, lip, attns if self.output_attention else None, h_enc)

    def project(self, h: Tensor) -> Tensor:
        """Map the decoder's output [B, out_len, d_model] to the forecast [B, out_len, c_out]."""
        return self.projection(h)


class InformerStack(Informer):
    """Informer with several encoders; takes Informer's arguments, e_layers by keyword.

    Args:
        e_layers: depth of each encoder; the i-th, from 0, reads the last seq_len // 2^i steps.
    """

    def __init__(self, *args: Any, e_layers: Sequence[int] = (3, 2, 1), **kwargs: Any) -> None:
        super().__init__(*args, e_layers=tuple(e_layers), **kwargs)
