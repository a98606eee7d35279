"""The settings that define a run's numbers, and the run's identity."""

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import MODELS, Model
from utils.errors import UserError, nearest
from utils.files import canonical, sha256_of
from utils.timefeatures import parse_freq

RESULTS_VERSION = 2  # raised with every change of the code that moves results: CHANGELOG.md
FEATURES, TYPES = ("M", "S", "MS"), ("type1", "type2")
AXES, NORMS = ("time", "feature"), ("max", "range", "none")


def setting(default: Any, group: str, text: str, **rules: Any) -> Any:
    """Declare a field that is also a flag, under a heading of --help.

    Rules: choices; low (inclusive), above and high (exclusive); off and on, for flags without a
    word; many, for flags with several; required; derived, for fields that are no flag.
    """
    return dataclasses.field(default=default, metadata={"group": group, "text": text, **rules})


@dataclass(frozen=True)
class Config:
    """One run: every setting that moves its numbers, checked.

    The regularizer's weight is kept as the signed coefficient `lip_coef` (c) alone:
    loss = MSE + c * LipReg.
    """

    model: str = setting("", "model", f"one of {', '.join(MODELS)}", required=True)
    data: str = setting("", "data", "name of the data set, or custom", required=True)
    features: str = setting(
        "M", "data", "M: all columns; S: target alone; MS: all in, target out", choices=FEATURES
    )
    target: str = setting("OT", "data", "target column of a custom file")
    cols: tuple[str, ...] | None = setting(None, "data", "columns to use (all)", many=True)
    missing: str = setting(
        "keep", "data", "cells of -9999: kept, or filled in time", choices=("keep", "interpolate")
    )
    freq: str = setting("h", "data", "unit of the time features: s, t (minutes), h, d, b, w, m")
    seq_len: int = setting(96, "data", "encoder input length in steps", low=2, high=5001)
    label_len: int = setting(48, "data", "known steps at the decoder's start", low=0, high=5001)
    pred_len: int = setting(24, "data", "forecast length in steps", low=1, high=5001)
    d_model: int = setting(512, "model", "width of the embedding", low=2, high=2**16)
    n_heads: int = setting(8, "model", "attention heads", low=1, high=2**16)
    e_layers: int = setting(2, "model", "encoder layers (informer)", low=1, high=65)
    d_layers: int = setting(1, "model", "decoder layers", low=1, high=65)
    s_layers: tuple[int, ...] = setting(
        (3, 2, 1), "model", "encoder depths of informerstack, with commas", low=1, high=65
    )
    d_ff: int = setting(2048, "model", "width of the feed-forward layers", low=1, high=2**18)
    factor: int = setting(5, "model", "ProbSparse factor c", low=1, high=5001)
    moving_avg: int = setting(25, "model", "window of autoformer's moving average, odd", low=1)
    padding: int = setting(0, "model", "decoder's placeholder: 0 zeros, 1 ones", choices=(0, 1))
    distil: bool = setting(True, "model", "turns distilling off", off=True)
    mix: bool = setting(True, "model", "turns mixed decoder attention off", off=True)
    dropout: float = setting(0.05, "model", "dropout probability", low=0.0, high=1.0)
    attn: str = setting("prob", "model", "encoder attention", choices=("prob", "full"))
    embed: str = setting("timeF", "model", "time embedding", choices=("timeF", "fixed", "learned"))
    activation: str = setting("gelu", "model", "feed-forward", choices=("gelu", "relu"))
    output_attention: bool = setting(False, "model", "--do_predict keeps attention maps", on=True)
    train_epochs: int = setting(6, "training", "epochs at most", low=1, high=10_001)
    batch_size: int = setting(32, "training", "windows a training step", low=1, high=2**20)
    patience: int = setting(3, "training", "epochs without a better validation MSE", low=1)
    learning_rate: float = setting(1e-4, "training", "Adam's initial rate", above=0.0)
    lradj: str = setting(
        "type1", "training", "type1: halved from epoch 3 on; type2: a fixed table", choices=TYPES
    )
    loss: str = setting("mse", "training", "forecast loss", choices=("mse",))
    lip_coef: float = setting(0.0, "regularizer", "c, the signed weight", derived=True)
    lip_axis: str = setting(
        "time", "regularizer", "differences along time (paper) or feature (its code)", choices=AXES
    )
    lip_norm: str = setting(
        "max", "regularizer", "embedding over its max (paper), max - min, or as is", choices=NORMS
    )
    seed: int = setting(0, "training", "repetition i runs with seed + i", low=0, high=2**31)
    eval_batch_size: int = setting(
        32,
        "training",
        "windows an evaluation batch (ProbSparse draws per batch)",
        low=1,
        high=2**20,
    )
    amp: str = setting("off", "training", "bf16: mixed precision", choices=("off", "bf16"))

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_value(field, getattr(self, field.name))
        longest = max(self.seq_len, self.label_len + self.pred_len)
        stack = self._model.depth == "s_layers"
        depths = self.s_layers if stack else (self.e_layers,)
        parts = [2**i for i in range(len(depths))]  # encoder i reads the last seq_len // 2**i steps
        distilled = min(  # steps that the last distilling layer reads
            -(-(self.seq_len // part) // 2 ** max(0, depth - 2))
            for part, depth in zip(parts, depths, strict=True)
        )
        if self.label_len > self.seq_len:
            raise UserError(
                f"--label_len {self.label_len}: must not exceed --seq_len {self.seq_len}"
            )
        if self.d_model % 2:
            raise UserError(f"--d_model {self.d_model}: must be even, sines and cosines share it")
        if self.d_model % self.n_heads:
            raise UserError(
                f"--d_model {self.d_model}: must be divisible by --n_heads {self.n_heads}"
            )
        if self.moving_avg % 2 == 0:
            raise UserError(f"--moving_avg {self.moving_avg}: must be odd")
        if longest > 5000:
            raise UserError(
                f"a length of {longest} steps: the position table has 5000; shorten --seq_len, "
                "--label_len or --pred_len"
            )
        if self.seq_len < parts[-1]:
            raise UserError(
                f"--s_layers: encoder {len(parts)} would read the last seq_len // {parts[-1]} "
                "steps; lengthen --seq_len or name fewer"
            )
        distils = self.distil and "distil" not in self._model.unused
        if distils and self.batch_size * distilled < 2:
            raise UserError(
                f"--batch_size {self.batch_size}: distilling leaves one step, and batch "
                "normalisation needs two values; raise it, or turn distilling off with --distil"
            )

    @property
    def _model(self) -> Model:
        """The model's row; Informer's where a Config is made without one."""
        return MODELS.get(self.model, MODELS["informer"])

    @property
    def loss_text(self) -> str:
        """The loss written out, e.g. `loss = MSE - 2 * LipReg (time axis, max-normalised)`."""
        if not self.lip_coef:
            return "loss = MSE (no regularizer)"
        sign = "-" if self.lip_coef < 0 else "+"
        norm = "not normalised" if self.lip_norm == "none" else f"{self.lip_norm}-normalised"
        size = repr(abs(self.lip_coef))
        return f"loss = MSE {sign} {size} * LipReg ({self.lip_axis} axis, {norm})"

    def identity(self, data_sha256: str) -> dict[str, Any]:
        """Return what defines the run's numbers, with settings that do not apply set to None."""
        settings = dataclasses.asdict(self)
        settings["freq"] = parse_freq(self.freq)
        if self.attn == "full":
            settings["factor"] = None
        settings["e_layers" if self._model.depth == "s_layers" else "s_layers"] = None
        settings |= dict.fromkeys(self._model.unused)
        if self.model != "autoformer":
            del settings["moving_avg"]  # runs recorded before it joined keep their identity
        if self.missing == "keep":
            del settings["missing"]  # likewise
        if not self.lip_coef:
            settings["lip_axis"] = None  # without a regularizer both axes are one run
        for name, value in settings.items():
            if isinstance(value, tuple):
                settings[name] = list(value)
        return {**settings, "data_sha256": data_sha256}

    def run_name(self, data_sha256: str, data_path: str = "") -> str:
        """Return the run folder's name: readable settings, then the identity's hash."""
        data = self.data
        if data == "custom" and data_path:
            data = re.sub(r"[^\w.-]+", "-", f"{Path(data_path).stem}-{self.target}")[:60]
        lengths = f"{self.seq_len}-{self.label_len}-{self.pred_len}"
        c = f"c{self.lip_coef:+g}_{self.lip_axis}" if self.lip_coef else "c0"
        readable = f"{self.model}_{data}_{self.features}_{lengths}_{c}_s{self.seed}"
        return f"{readable}-{identity_hash(self.identity(data_sha256))[:8]}"


def identity_hash(identity: dict[str, Any]) -> str:
    """Return the hash of an identity and of the results version, in full."""
    return sha256_of(canonical({"results_version": RESULTS_VERSION, **identity}).encode())


def setting_hash(identity: dict[str, Any]) -> str:
    """Return the hash of an identity without seed and regularizer, the same in a whole cell."""
    apart = ("seed", "lip_coef", "lip_axis", "lip_norm")
    return identity_hash({k: v for k, v in identity.items() if k not in apart})


def check_value(field: dataclasses.Field[Any], value: Any) -> None:
    """Check one value against its field's rules; a UserError says what is allowed."""
    rules = field.metadata
    for item in value if isinstance(value, tuple) else (value,):
        shown = f"--{field.name} {item}"
        if "choices" in rules:
            check_choice(field.name, item, rules["choices"])
        if isinstance(item, float) and not math.isfinite(item):
            raise UserError(f"{shown}: must be a finite number")
        if "low" in rules and item is not None and item < rules["low"]:
            raise UserError(f"{shown}: must be at least {rules['low']}")
        if "high" in rules and item is not None and item >= rules["high"]:
            raise UserError(f"{shown}: must be below {rules['high']}")
        if "above" in rules and item <= rules["above"]:
            raise UserError(f"{shown}: must be above {rules['above']}")


def check_choice(flag: str, word: Any, choices: Sequence[Any]) -> None:
    """Refuse a word that is none of a flag's choices; the nearest and all others are named."""
    if word not in choices:
        names = [str(choice) for choice in choices]
        hint = nearest(str(word), names)
        raise UserError(f"--{flag} {word}: unknown{hint}; one of {', '.join(names)}")
