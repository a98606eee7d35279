"""The settings that define a run's numbers, and the run's identity."""

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import MODELS
from models.model import NAMES
from utils.errors import UserError, nearest
from utils.files import canonical, sha256_of
from utils.timefeatures import parse_freq

RESULTS_VERSION = 2  # raised with every change of the code that moves results: CHANGELOG.md
FEATURES, TYPES = ("M", "S", "MS"), ("type1", "type2")


def setting(default: Any, group: str, text: str, **rules: Any) -> Any:
    """Declare a field that is also a flag, under a heading of --help.

    Rules: choices; low (inclusive) and high (exclusive); kind, what a word becomes where the
    default does not tell; many, for flags with several words; required.
    """
    return dataclasses.field(default=default, metadata={"group": group, "text": text, **rules})


@dataclass(frozen=True)
class Config:
    """One run: every setting that moves its numbers, checked.

    The regularizer's weight is kept as the signed coefficient `lip_coef` (c) alone:
    loss = MSE + c * LipReg.
    """

    model: str = setting("", "model", "what is trained", choices=tuple(MODELS), required=True)
    data: str = setting("", "data", "name of the data set, or custom", required=True)
    features: str = setting(
        "M", "data", "M: all columns; S: target alone; MS: all in, target out", choices=FEATURES
    )
    target: str = setting("OT", "data", "target column of a custom file")
    cols: tuple[str, ...] | None = setting(
        None, "data", "columns to use (all)", kind=str, many=True
    )
    missing: str = setting(
        "keep",
        "data",
        "cells equal to -9999 (missing values): keep, or interpolate over time",
        choices=("keep", "interpolate"),
    )
    freq: str = setting(
        "h", "data", "time features: s, t (minutes), h, d, b, w, m; custom: by the file"
    )
    seq_len: int = setting(96, "data", "encoder input length in steps", low=2, high=5001)
    label_len: int = setting(48, "data", "known steps at the decoder's start", low=0, high=5001)
    pred_len: int = setting(24, "data", "forecast length in steps", low=1, high=5001)
    d_model: int = setting(512, "model", "width of the embedding", low=2, high=2**16)
    n_heads: int = setting(8, "model", "attention heads", low=1, high=2**16)
    e_layers: int = setting(
        2, "model", "encoder layers (informerstack has --s_layers)", low=1, high=65
    )
    d_layers: int = setting(1, "model", "decoder layers", low=1, high=65)
    s_layers: tuple[int, ...] = setting(
        (3, 2, 1), "model", "encoder depths of informerstack, with commas", low=1, high=65
    )
    d_ff: int = setting(2048, "model", "width of the feed-forward layers", low=1, high=2**18)
    factor: int = setting(
        5, "model", "sampling factor of ProbSparse and of auto-correlation", low=1, high=5001
    )
    moving_avg: int = setting(
        25, "model", "window of autoformer's moving average, odd", low=1, high=5001
    )
    padding: int = setting(0, "model", "decoder's placeholder: 0 zeros, 1 ones", choices=(0, 1))
    distil: bool = setting(True, "model", "turns distilling off")
    mix: bool = setting(True, "model", "turns mixed decoder attention off")
    dropout: float = setting(0.05, "model", "dropout probability", low=0.0, high=1.0)
    attn: str = setting("prob", "model", "self-attention", choices=NAMES["attn"])
    embed: str = setting("timeF", "model", "time embedding", choices=NAMES["embed"])
    activation: str = setting("gelu", "model", "feed-forward", choices=NAMES["activation"])
    output_attention: bool = setting(False, "model", "--do_predict keeps attention maps")
    train_epochs: int = setting(6, "training", "epochs at most", low=1, high=10_001)
    batch_size: int = setting(32, "training", "windows per training step", low=1, high=2**20)
    patience: int = setting(3, "training", "epochs without a better validation MSE", low=1)
    learning_rate: float = setting(1e-4, "training", "Adam's initial rate", low=1e-12)
    lradj: str = setting(
        "type1", "training", "type1: halved from epoch 3 on; type2: a fixed table", choices=TYPES
    )
    loss: str = setting("mse", "training", "forecast loss", choices=("mse",))
    lip_coef: float = 0.0  # c, from --lam and --lip_sign
    lip_axis: str = setting(
        *("time", "regularizer", "differences along time (paper) or feature (its code)"),
        choices=NAMES["lip_axis"],
    )
    lip_norm: str = setting(
        *("max", "regularizer", "divide the embedding by its max (paper), by its range, or not"),
        choices=NAMES["lip_norm"],
    )
    seed: int = setting(0, "training", "repetition i runs with seed + i", low=0, high=2**31)
    eval_batch_size: int = setting(
        *(32, "training", "windows per evaluation batch (ProbSparse draws per batch)"),
        **{"low": 1, "high": 2**20},
    )
    amp: str = setting("off", "training", "bf16: mixed precision", choices=NAMES["amp"])

    def __post_init__(self) -> None:
        check_values(self)
        decoded, depths = self.label_len + self.pred_len, self.depths
        label_too_long = self.label_len > self.seq_len
        steps_read = [self.seq_len // 2**i for i in range(len(depths))]  # by each encoder
        # The batch normalisation of the last distilling layer needs two values.
        steps_left = [-(-n // 2 ** max(0, d - 2)) for n, d in zip(steps_read, depths, strict=True)]
        too_few_to_distil = self.distils and self.batch_size * min(steps_left) < 2
        freq_unfit = self.embed != "timeF" and parse_freq(self.freq) not in "ht"
        for broken, message in (
            (label_too_long, "--label_len {label_len}: must not exceed --seq_len {seq_len}"),
            (decoded > 5000, "--label_len + --pred_len: exceed the position table's 5000 steps"),
            (self.d_model % 2, "--d_model {d_model}: must be even, sines and cosines share it"),
            (self.d_model % self.n_heads, "--n_heads {n_heads}: must divide --d_model {d_model}"),
            (self.moving_avg % 2 == 0, "--moving_avg {moving_avg}: must be odd"),
            (
                not steps_read[-1],
                "--s_layers {s_layers}: the last encoder would read none of --seq_len",
            ),
            (
                too_few_to_distil,
                "--batch_size {batch_size}: too small to distil; raise it or add --distil",
            ),
            (freq_unfit, "--freq {freq}: --embed {embed} knows hours (h) and minutes (t)"),
        ):
            if broken:
                raise UserError(message.format(**vars(self)))

    @property
    def depths(self) -> tuple[int, ...]:
        """Layers of each encoder; only informerstack has several."""
        return self.s_layers if MODELS[self.model].depth == "s_layers" else (self.e_layers,)

    @property
    def distils(self) -> bool:
        """Tell whether the model distils between encoder layers."""
        return self.distil and "distil" not in MODELS[self.model].unused

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
        row = MODELS[self.model]
        settings = dataclasses.asdict(self) | dict.fromkeys(row.unused)
        settings["freq"] = parse_freq(self.freq)
        settings["s_layers" if row.depth == "e_layers" else "e_layers"] = None
        if self.attn == "full" and "attn" not in row.unused:
            settings["factor"] = None
        if "moving_avg" in row.unused:
            del settings["moving_avg"]  # runs recorded before it joined keep their identity
        if self.missing == "keep":
            del settings["missing"]  # likewise
        if not self.lip_coef:
            settings["lip_axis"] = None  # without a regularizer both axes are one run
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


def settings_of(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of Config in a recorded identity, without what has no effect."""
    names = {field.name for field in dataclasses.fields(Config)}
    known = {k: v for k, v in identity.items() if k in names and v is not None}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}


def check_values(settings: Any) -> None:
    """Check every field of Config or Options by its rules; a UserError says what is allowed."""
    for field in dataclasses.fields(settings):
        value, rules = getattr(settings, field.name), field.metadata
        if value is None:
            continue
        for item in value if isinstance(value, tuple) else (value,):
            shown = f"--{field.name} {item}"
            if "choices" in rules:
                check_choice(field.name, item, rules["choices"])
            if isinstance(item, float) and not math.isfinite(item):
                raise UserError(f"{shown}: must be a finite number")
            if "low" in rules and item < rules["low"]:
                raise UserError(f"{shown}: must be at least {rules['low']}")
            if "high" in rules and item >= rules["high"]:
                raise UserError(f"{shown}: must be below {rules['high']}")


def check_choice(flag: str, word: Any, choices: Iterable[Any]) -> None:
    """Refuse a word that is none of a flag's choices; the nearest and all others are named."""
    names = [str(choice) for choice in choices]
    if str(word) not in names:
        hint = nearest(str(word), names)
        raise UserError(f"--{flag} {word}: unknown{hint}; one of {', '.join(names)}")
