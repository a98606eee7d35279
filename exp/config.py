"""The settings of a run: flags -> Config (what defines its numbers) and Options (where and how)."""

import argparse
import dataclasses
import importlib.util
import math
import re
from collections.abc import Iterable
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from data.data_loader import natural_freq
from data.registry import DATASETS
from models import MODELS
from models.model import NAMES
from utils.files import UserError, canonical, nearest, read_json, sha256_of
from utils.timefeatures import parse_freq

# By --amp; raised with every change of the code that moves results: CHANGELOG.md.
RESULTS_VERSIONS = {"off": 2, "bf16": 3}
FEATURES, TYPES = ("M", "S", "MS"), ("type1", "type2")


def flag(default: Any, group: str, text: str, **rules: Any) -> Any:
    """Declare a field that is also a flag, under a heading of --help.

    Rules: choices; low (inclusive) and high (exclusive); cls, what a word becomes where the
    default does not tell; many, for flags with several words; required.
    """
    return dataclasses.field(default=default, metadata={"group": group, "text": text, **rules})


@dataclass(frozen=True)
class Config:
    """One run: every setting that moves its numbers, checked.

    The regularizer's weight is kept as the signed coefficient `lip_coef` (c) alone:
    loss = MSE + c * LipReg.
    """

    model: str = flag("", "model", "what is trained", choices=tuple(MODELS), required=True)
    data: str = flag("", "data", "name of the data set, or custom", required=True)
    features: str = flag(
        "M", "data", "M: all columns; S: target alone; MS: all in, target out", choices=FEATURES
    )
    target: str = flag("OT", "data", "target column of a custom file")
    cols: tuple[str, ...] | None = flag(None, "data", "columns to use (all)", cls=str, many=True)
    missing: str = flag(
        "keep",
        "data",
        "cells equal to -9999 (missing values): keep, or interpolate over time",
        choices=("keep", "interpolate"),
    )
    freq: str = flag(
        "h", "data", "time features: s, t (minutes), h, d, b, w, m; custom: by the file"
    )
    seq_len: int = flag(96, "data", "encoder input length in steps", low=2, high=5001)
    label_len: int = flag(48, "data", "known steps at the decoder's start", low=0, high=5001)
    pred_len: int = flag(24, "data", "forecast length in steps", low=1, high=5001)
    d_model: int = flag(512, "model", "width of the embedding", low=2, high=2**16)
    n_heads: int = flag(8, "model", "attention heads", low=1, high=2**16)
    e_layers: int = flag(
        2, "model", "encoder layers (informerstack has --s_layers)", low=1, high=65
    )
    d_layers: int = flag(1, "model", "decoder layers", low=1, high=65)
    s_layers: tuple[int, ...] = flag(
        (3, 2, 1), "model", "encoder depths of informerstack, with commas", low=1, high=65
    )
    d_ff: int = flag(2048, "model", "width of the feed-forward layers", low=1, high=2**18)
    factor: int = flag(
        5, "model", "sampling factor of ProbSparse and of auto-correlation", low=1, high=5001
    )
    moving_avg: int = flag(
        25, "model", "window of autoformer's moving average, odd", low=1, high=5001
    )
    padding: int = flag(0, "model", "decoder's placeholder: 0 zeros, 1 ones", choices=(0, 1))
    distil: bool = flag(True, "model", "turns distilling off")
    mix: bool = flag(True, "model", "turns mixed decoder attention off")
    dropout: float = flag(0.05, "model", "dropout probability", low=0.0, high=1.0)
    attn: str = flag("prob", "model", "self-attention", choices=NAMES["attn"])
    embed: str = flag("timeF", "model", "time embedding", choices=NAMES["embed"])
    activation: str = flag("gelu", "model", "feed-forward", choices=NAMES["activation"])
    output_attention: bool = flag(False, "model", "--do_predict keeps attention maps")
    train_epochs: int = flag(6, "training", "epochs at most", low=1, high=10_001)
    batch_size: int = flag(32, "training", "windows per training step", low=1, high=2**20)
    patience: int = flag(3, "training", "epochs without a better validation MSE", low=1)
    learning_rate: float = flag(1e-4, "training", "Adam's initial rate", low=1e-12)
    lradj: str = flag(
        "type1", "training", "type1: halved from epoch 3 on; type2: a fixed table", choices=TYPES
    )
    loss: str = flag("mse", "training", "forecast loss", choices=("mse",))
    lip_coef: float = 0.0  # c, from --lam and --lip_sign
    lip_axis: str = flag(
        *("time", "regularizer", "differences along time (paper) or feature (its code)"),
        choices=NAMES["lip_axis"],
    )
    lip_norm: str = flag(
        *("max", "regularizer", "divide the embedding by its max (paper), by its range, or not"),
        choices=NAMES["lip_norm"],
    )
    seed: int = flag(0, "training", "repetition i runs with seed + i", low=0, high=2**31)
    eval_batch_size: int = flag(
        *(32, "training", "windows per evaluation batch (ProbSparse draws per batch)"),
        **{"low": 1, "high": 2**20},
    )
    amp: str = flag("off", "training", "bf16: mixed precision", choices=NAMES["amp"])

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


def results_version(identity: dict[str, Any]) -> int:
    """Return the results version of an identity's runs, which its precision decides."""
    return RESULTS_VERSIONS[identity.get("amp", "off")]


def identity_hash(identity: dict[str, Any]) -> str:
    """Return the hash of an identity and of its results version, in full."""
    version = results_version(identity)
    return sha256_of(canonical({"results_version": version, **identity}).encode())


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


WHERE = "where things are"
RUNNING = "running"
OUTPUT = "what comes out"
OLD = "kept for commands of the released code"
GROUPS = ("data", "model", "regularizer", "training", RUNNING, OUTPUT, WHERE, OLD)
SIGNS = ("minus", "plus")


def parse_bool(word: str) -> bool:
    """Read a boolean word (a type of argparse); the released code took every word for true."""
    if word.lower() not in ConfigParser.BOOLEAN_STATES:
        raise argparse.ArgumentTypeError(f"{word}: must be True or False")
    return ConfigParser.BOOLEAN_STATES[word.lower()]


def parse_finite(word: str) -> float:
    """Read a finite number (a type of argparse)."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{word}: must be a finite number")
    return value


def depths(word: str) -> tuple[int, ...]:
    """Read numbers with commas (a type of argparse)."""
    return tuple(int(part) for part in word.split(","))


@dataclass(frozen=True)
class Options:
    """Where and how to run: recorded beside the numbers, but not part of what defines them."""

    root_path: Path = flag(Path("./data/ETT/"), WHERE, "folder searched first for the file")
    data_path: str = flag("ETTh1.csv", WHERE, "file name of a custom data set")
    results: Path = flag(Path("./results"), WHERE, "folder of the runs' folders")
    checkpoints: Path | None = flag(
        None, WHERE, "another folder for checkpoints and weights", cls=Path
    )
    itr: int = flag(2, RUNNING, "repetitions, with seeds seed, seed + 1, ...", low=1, high=10_001)
    device: str = flag("auto", RUNNING, "auto, cpu, cuda or cuda:N")
    deterministic: bool = flag(False, RUNNING, "deterministic CUDA kernels, slower")
    threads: int | None = flag(
        None, RUNNING, "processor threads (all cores)", cls=int, low=1, high=1025
    )
    force: bool = flag(False, RUNNING, "repeat a finished run; its folder is renamed and kept")
    wait: bool = flag(False, RUNNING, "wait for another process that has the run")
    dry_run: bool = flag(False, RUNNING, "check all, try a batch, write nothing")
    test_only: bool = flag(False, RUNNING, "test the weights of --load, no training")
    load: Path | None = flag(
        None, RUNNING, "weights of this project's or of Informer2020's", cls=Path
    )
    do_predict: bool = flag(False, OUTPUT, "forecast beyond the file's end: CSV, PNG")
    inverse: bool = flag(False, OUTPUT, "report errors in original units, too")
    test_each_epoch: bool = flag(False, OUTPUT, "record the test MSE of every epoch")
    save_forecasts: bool = flag(False, OUTPUT, "keep all test forecasts (forecasts.npz)")
    weights: str = flag(
        "keep", OUTPUT, "keep or drop the best weights of a run", choices=("keep", "drop")
    )
    tensorboard: bool = flag(False, OUTPUT, "curves for TensorBoard, too")
    des: str = flag("test", OUTPUT, "a label, recorded")
    use_gpu: bool | None = flag(
        None, OLD, "True or False (default: a GPU if there is one)", cls=parse_bool
    )
    gpu: int | None = flag(None, OLD, "number of the GPU", cls=int, low=0)
    use_multi_gpu: bool = flag(False, OLD, "no effect: python -m exp.sweep uses all GPUs")
    devices: str = flag("0,1,2,3", OLD, "no effect")
    num_workers: int = flag(0, OLD, "no effect: windows are indexed in place", low=0)
    enc_in: int | None = flag(None, OLD, "input columns (counted in the file)", cls=int)
    dec_in: int | None = flag(None, OLD, "input columns (counted in the file)", cls=int)
    c_out: int | None = flag(None, OLD, "output columns (counted in the file)", cls=int)

    def __post_init__(self) -> None:
        check_values(self)
        if self.test_only and self.load is None:
            raise UserError("--test_only: name the weights with --load FILE")
        if not self.test_only and self.load:
            raise UserError("--load: for --test_only; training resumes by itself")
        if self.tensorboard and not importlib.util.find_spec("tensorboard"):
            advice = "pip install -r requirements-tensorboard.txt"
            raise UserError(f"--tensorboard: not installed; {advice}")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        raise UserError(message.replace("argument ", "", 1))


def build_parser() -> Parser:
    """Return the parser made of the fields of Config and Options."""
    epilog = "Example: python main_informer.py --model informer --data demo --lam 2"
    for name, row in MODELS.items():
        if row.assumed:
            known, guess = (
                " ".join(f"--{flag} {value}" for flag, value in part.items())
                for part in (row.defaults, row.assumed)
            )
            epilog += f"\n{name}: published {known}; assumed (unpublished) {guess}"
    parser = Parser(
        prog="main_informer.py",
        description="Train and test Informer with loss = MSE + c * LipReg, c = -lam or +lam.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog,
    )
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    for field in (*dataclasses.fields(Config), *dataclasses.fields(Options)):
        if field.metadata:
            _add_flag(groups[field.metadata["group"]], field)
    add = groups["regularizer"].add_argument
    add(
        "--lam",
        type=parse_finite,
        default=0.0,
        metavar="X",
        help="lambda, the weight of LipReg (default: 0.0)",
    )
    text = "minus: c = -lam, rougher input (Eq. 7); plus: c = +lam, smoother (Eq. 6)"
    add("--lip_sign", default="minus", metavar="|".join(SIGNS), help=f"{text} (default: minus)")
    add = groups["training"].add_argument
    add("--use_amp", action="store_const", dest="amp", const="bf16", help="same as --amp bf16")
    return parser


def _add_flag(group: Any, field: dataclasses.Field[Any]) -> None:
    rules, flag, default = field.metadata, f"--{field.name}", cast(Any, field.default)
    if isinstance(default, bool):
        action = "store_false" if default else "store_true"
        group.add_argument(flag, action=action, help=rules["text"])
        return
    cls = rules.get("cls", type(default))
    if cls is tuple:
        cls, default = depths, ",".join(map(str, default))
    shown = "" if default in (None, "") else " (default: %(default)s)"
    group.add_argument(
        flag,
        type=cls,
        nargs="+" if "many" in rules else None,
        default=default,
        required="required" in rules,
        metavar="|".join(map(str, rules.get("choices", "X"))),
        help=rules["text"] + shown,
    )


def signed_coefficient(lam: float, sign: str) -> float:
    """Return c, for loss = MSE + c * LipReg; lambda 0 is 0.0 whichever sign was asked for."""
    return (lam if sign == "plus" else -lam) or 0.0


def parse(words: list[str]) -> tuple[Config, Options]:
    """Turn a command line into checked settings; a UserError names the first mistake."""
    parser = build_parser()
    asked, unknown = parser.parse_known_args(words)
    if unknown:
        flag = unknown[0].split("=")[0]
        hint = nearest(flag, parser._option_string_actions)
        raise UserError(f"{flag}: unknown{hint}; --help lists all flags")
    check_choice("model", asked.model, MODELS)
    check_choice("data", asked.data, [*DATASETS, "custom"])
    check_choice("lip_sign", asked.lip_sign, SIGNS)
    row, recorded = MODELS[asked.model], _recorded(asked.load)
    if asked.data == "custom":  # the time features follow the file's step
        own = {"freq": natural_freq("custom", asked.root_path, asked.data_path, asked.embed)}
    else:
        own = {"target": DATASETS[asked.data].target}
    parser.set_defaults(**own | row.defaults | row.assumed | recorded)
    asked = parser.parse_args(words)  # what was asked for wins over these
    for name, value in recorded.items():
        if name != "amp" and (other := getattr(asked, name)) != value:
            record = f"the record beside {asked.load} says {value}"
            raise UserError(f"--{name} {other}: {record}; leave the flag out")
    if asked.target != (target := own.get("target", asked.target)):
        print(f"note: {asked.data} has target {target}; --target {asked.target} is not used")
        asked.target = target
    asked.cols = asked.cols and tuple(asked.cols)
    asked.lip_coef = signed_coefficient(asked.lam, asked.lip_sign)
    config, options = _fill(Config, asked), _fill(Options, asked)
    dataclasses.replace(
        config, seed=config.seed + options.itr - 1
    )  # the last seed must be valid, too
    return config, options


def _fill(settings: Any, asked: argparse.Namespace) -> Any:
    return settings(**{f.name: getattr(asked, f.name) for f in dataclasses.fields(settings)})


def _recorded(weights: Path | None) -> dict[str, Any]:
    """Return data and model settings from the record beside the weights, if there is one."""
    try:
        body = read_json(weights.parent / "config.json") if weights else {}
    except (FileNotFoundError, NotADirectoryError):
        return {}  # weights from elsewhere: the flags alone describe them
    groups = {f.name: f.metadata.get("group") for f in dataclasses.fields(Config)}
    apart = ("data", "target", "cols")  # the weights may be tested on other data
    identity = body.get("identity", {})  # absent from the config.json of another project
    settings = {k: v for k, v in settings_of(identity).items() if k not in apart}
    scoring = ("seed", "eval_batch_size", "amp")  # with others the test MSE would be another
    return {k: v for k, v in settings.items() if groups[k] in ("data", "model") or k in scoring}
