"""The Transformer that Autoformer's authors compare with: Informer without what makes it sparse."""

from typing import Any

from torch import Tensor

from models.model import Informer


class Transformer(Informer):
    """Full attention everywhere, no distilling, no mix, and embeddings without bias.

    State keys and shapes are those of Autoformer's repository.

    Args:
        args: as for Informer.
        settings: as for Informer, whose factor, attn, distil and mix do not apply.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings, attn="full", distil=False, mix=False, embed_bias=False)
        self.decoder.add_module("projection", self.projection)  # its place in that repository
        del self.projection

    def project(self, h: Tensor) -> Tensor:
        """Map the decoder's output [B, out_len, d_model] to the forecast [B, out_len, c_out]."""
        return self.decoder.get_submodule("projection")(h)
