"""Informer and its relatives, with the Lipschitz Regularizer on the encoder's embedding."""

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.attn import AttentionLayer, FullAttention, ProbAttention
from models.decoder import Decoder, DecoderLayer
from models.embed import DataEmbedding
from models.encoder import ConvLayer, Encoder, EncoderLayer, EncoderStack
from models.layers import LayerNorm, Linear
from models.lipreg import NORMALISATIONS

NAMES = {
    "attn": ("prob", "full"),
    "embed": ("timeF", "fixed", "learned"),
    "activation": ("gelu", "relu"),
    "lip_axis": ("time", "feature"),
    "lip_norm": NORMALISATIONS,
    "amp": ("off", "bf16", "tf32"),  # tf32 is CUDA's affair: a model computes as with off
}


class Forecast(NamedTuple):
    """What every model's forward pass gives."""

    pred: Tensor  # of the scaled series [B, out_len, c_out], fp32
    lip: Tensor  # LipReg of the encoder's embedding, an fp32 scalar
    attns: list[Tensor] | None  # encoder layers' maps [B, H, L, L] (Autoformer: [B, 1, L, L])
    embedded: Tensor  # the encoder's embedded input [B, seq_len, d_model] after dropout


def check_names(**chosen: str) -> None:
    """Raise a ValueError if a setting is none of its NAMES."""
    for setting, name in chosen.items():
        if name not in NAMES[setting]:
            raise ValueError(f"unknown {setting} {name!r}: choose one of {NAMES[setting]}")


class Informer(nn.Module):
    """Informer (Zhou et al., AAAI 2021); arguments, state keys and shapes are Informer2020's.

    lip_axis and lip_norm are LipReg's. With amp "bf16" encoder and decoder compute in bfloat16 on
    fp32 weights. The order in which layers are made decides which weights a seed gives.
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
        device: torch.device | str | None = None,
        *,
        lip_axis: str = "time",
        lip_norm: str = "max",
        amp: str = "off",
        embed_bias: bool = True,
    ) -> None:
        super().__init__()
        check_names(attn=attn, embed=embed, activation=activation)
        check_names(lip_axis=lip_axis, lip_norm=lip_norm, amp=amp)
        self.out_len, self.output_attention, self.amp = out_len, output_attention, amp
        embedding = partial(
            DataEmbedding, d_model=d_model, embed=embed, freq=freq, dropout=dropout, bias=embed_bias
        )
        self.enc_embedding = embedding(enc_in, lip_axis=lip_axis, lip_norm=lip_norm)
        self.dec_embedding = embedding(dec_in)
        layer: dict[str, Any] = {"d_model": d_model, "d_ff": d_ff, "dropout": dropout}
        layer["activation"] = activation

        def self_attention(masked: bool, maps: bool = False, mix: bool = False) -> AttentionLayer:
            prob, full = ProbAttention(masked, factor, maps), FullAttention(masked, dropout, maps)
            return AttentionLayer(prob if attn == "prob" else full, d_model, n_heads, mix)

        def encoder(depth: int) -> Encoder:
            attentions = [self_attention(False, output_attention) for _ in range(depth)]
            layers = [
                EncoderLayer(a, LayerNorm(d_model), LayerNorm(d_model), **layer) for a in attentions
            ]
            distilling = [ConvLayer(d_model) for _ in range(depth - 1 if distil else 0)]
            return Encoder(layers, LayerNorm(d_model), distilling)

        def decoder_layer() -> DecoderLayer:
            cross_attention = AttentionLayer(FullAttention(False, dropout), d_model, n_heads)
            return DecoderLayer(self_attention(True, mix=mix), cross_attention, **layer)

        stack = not isinstance(e_layers, int)
        self.encoder = EncoderStack(list(map(encoder, e_layers))) if stack else encoder(e_layers)
        self.decoder = Decoder([decoder_layer() for _ in range(d_layers)], d_model)
        self.projection = Linear(d_model, c_out)
        self.to(device)

    def forward(
        self, x_enc: Tensor, x_mark_enc: Tensor, x_dec: Tensor, x_mark_dec: Tensor
    ) -> Forecast:
        """Forecast from scaled values [B, L, C] and their time features [B, L, T].

        The encoder's L is seq_len; the decoder's are label_len observed steps and out_len padded.
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


class Transformer(Informer):
    """The Transformer that Autoformer's authors compare with, and its repository's state keys.

    Full attention everywhere, no distilling, no mix, and embeddings without bias.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings, attn="full", distil=False, mix=False, embed_bias=False)
        self.decoder.add_module("projection", self.projection)  # its place in that repository
        del self.projection

    def project(self, h: Tensor) -> Tensor:
        """Do as Informer does."""
        return self.decoder.get_submodule("projection")(h)


class InformerStack(Informer):
    """Informer with several encoders, of which the i-th, from 0, has depth e_layers[i]."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = inspect.signature(Informer).bind_partial(*args, **kwargs).arguments
        super().__init__(**{"e_layers": (3, 2, 1), **given})
