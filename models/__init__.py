"""The Lipschitz Regularizer and the forecasting models it is built into.

A model joins by a file and a row of MODELS.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from models.autoformer import Autoformer
from models.lipreg import LipReg, lipschitz_constant
from models.model import Forecast, Informer, InformerStack, Transformer


@dataclass(frozen=True)
class Model:
    """One row: a model's class and the settings that are its own."""

    cls: Callable[..., nn.Module]
    depth: str = "e_layers"  # the setting that gives its e_layers
    unused: tuple[str, ...] = ()  # settings of other models
    defaults: dict[str, Any] = field(default_factory=dict)  # published, other than Informer's
    assumed: dict[str, Any] = field(default_factory=dict)  # not published with the results

    def __call__(self, **settings: Any) -> Any:
        """Make the model; settings of other models are left out."""
        return self.cls(**{k: v for k, v in settings.items() if k not in self.unused})


AUTOFORMERS = {"label_len": 48, "e_layers": 2, "d_layers": 1, "train_epochs": 10, "patience": 3}

MODELS = {
    "informer": Model(Informer, unused=("moving_avg",)),
    "informerstack": Model(InformerStack, depth="s_layers", unused=("moving_avg",)),
    "transformer": Model(
        Transformer,
        unused=("moving_avg", "factor", "attn", "distil", "mix"),
        defaults={"seq_len": 96},
        assumed=AUTOFORMERS,
    ),
    "autoformer": Model(
        Autoformer,
        unused=("attn", "distil", "mix"),
        defaults={"seq_len": 96},
        assumed={**AUTOFORMERS, "factor": 3, "moving_avg": 25},
    ),
}

__all__ = ["MODELS", "Forecast", "Informer", "InformerStack", "LipReg", "lipschitz_constant"]
