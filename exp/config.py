"""The settings of a run: flags -> Config (what defines its numbers) and Options (where and how)."""

import argparse
import importlib.util
import math
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from data.data_loader import natural_freq
from data.registry import DATASETS
from models import MODELS
from models.model import NAMES
from utils.files import UserError, canonical, nearest, sha256_of
from utils.output import Parser, add_flags, check_ranges, flag, parse_bool, parse_finite
from utils.timefeatures import parse_freq

# By --amp; raised with every change of the code that moves results: CHANGELOG.md.
RESULTS_VERSIONS = {"off": 2, "bf16": 3, "tf32": 2}
RUN, OUT, WHERE = "running", "what comes out", "where things are"
LIP, OLD = "regularizer", "kept for commands of the released code"
NO_EFFECT = {
    "checkpoints": "weights are in the run's folder",
    "use_multi_gpu": "python -m exp.sweep uses all GPUs",
    "devices": "python -m exp.sweep uses all GPUs",
    "num_workers": "windows are indexed in place",
    **dict.fromkeys(("enc_in", "dec_in", "c_out"), "columns are counted in the file"),
}


@dataclass(frozen=True)
class Config:
    """One run: every setting that moves its numbers, checked.

    The regularizer's weight is the signed coefficient `lip_coef` (c) alone: MSE + c * LipReg.
    Rules for the run's identity: regularizer=True leaves a field out of the setting's hash, which
    is one in a whole cell; needs="x": no effect where x is 0; absent=x leaves it out at x, so that
    runs recorded before the field was there keep their identity.
    """

    model: str = flag("", "model", "what is trained", MODELS, required=True)
    data: str = flag("", "data", "name of the data set", [*DATASETS, "custom"], required=True)
    features: str = flag("M", "data", "M: all; S: target; MS: all to target", ("M", "S", "MS"))
    target: str = flag("OT", "data", "target column of a custom file")
    cols: tuple[str, ...] | None = flag(None, "data", "columns to use (all)", cls=str, nargs="+")
    freq: str = flag("h", "data", "time features: s, t (minutes), h, d, b, w, m; custom: by file")
    seq_len: int = flag(96, "data", "encoder input length in steps", range(2, 5001))
    label_len: int = flag(48, "data", "known steps at the decoder's start", range(5001))
    pred_len: int = flag(24, "data", "forecast length in steps", range(1, 5001))
    d_model: int = flag(512, "model", "width of the embedding", range(2, 2**16))
    n_heads: int = flag(8, "model", "attention heads", range(1, 2**16))
    e_layers: int = flag(2, "model", "encoder layers (informerstack: --s_layers)", range(1, 65))
    d_layers: int = flag(1, "model", "decoder layers", range(1, 65))
    s_layers: tuple[int, ...] = flag((3, 2, 1), "model", "informerstack's layers", range(1, 65))
    d_ff: int = flag(2048, "model", "width of the feed-forward layers", range(1, 2**18))
    factor: int = flag(5, "model", "of ProbSparse, of auto-correlation", range(1, 5001))
    moving_avg: int = flag(25, "model", "moving average's odd window", range(1, 5001), absent=None)
    padding: int = flag(0, "model", "decoder's placeholder: zeros or ones", (0, 1))
    distil: bool = flag(True, "model", "train without distilling")
    mix: bool = flag(True, "model", "train without mixing in the decoder's attention")
    dropout: float = flag(0.05, "model", "dropout probability")
    attn: str = flag("prob", "model", "self-attention", NAMES["attn"])
    embed: str = flag("timeF", "model", "time embedding", NAMES["embed"])
    activation: str = flag("gelu", "model", "feed-forward", NAMES["activation"])
    output_attention: bool = flag(False, "model", "--do_predict keeps attention maps")
    train_epochs: int = flag(6, "training", "epochs at most", range(1, 10_001))
    batch_size: int = flag(32, "training", "windows per training step", range(1, 2**20))
    patience: int = flag(3, "training", "epochs without a better validation MSE", range(1, 10_001))
    learning_rate: float = flag(1e-4, "training", "Adam's initial rate")
    lradj: str = flag("type1", "training", "halved from epoch 3 on, or a table", ("type1", "type2"))
    loss: str = flag("mse", "training", "forecast loss", ("mse",))
    lip_coef: float = flag(0.0, "", "c, from --lam and --lip_sign", regularizer=True)
    lip_axis: str = flag(
        *("time", LIP, "differences along time (paper) or feature (its code)", NAMES["lip_axis"]),
        **{"regularizer": True, "needs": "lip_coef"},
    )
    lip_norm: str = flag("max", LIP, "divisor (paper: max)", NAMES["lip_norm"], regularizer=True)
    seed: int = flag(0, "training", "repetition i runs with seed + i", range(2**31))
    eval_batch_size: int = flag(32, "training", "windows per evaluation batch", range(1, 2**20))
    amp: str = flag(
        "off",
        "training",
        "bf16: mixed precision; tf32: a GPU's fp32 with short factors",
        NAMES["amp"],
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        row, decoded = MODELS[self.model], self.label_len + self.pred_len
        least = 2 ** (len(self.s_layers) - 1) if row.depth == "s_layers" else 2
        calendar_only = self.embed != "timeF" and parse_freq(self.freq) not in "ht"
        for broken, name, text in (
            (self.label_len > self.seq_len, "label_len", "must not exceed --seq_len {seq_len}"),
            (decoded > 5000, "pred_len", "with --label_len over the position table's 5000 steps"),
            (self.d_model % 2, "d_model", "must be even, sines and cosines share it"),
            (self.d_model % self.n_heads, "n_heads", "must divide --d_model {d_model}"),
            (self.moving_avg % 2 == 0, "moving_avg", "must be odd"),
            (not 0 <= self.dropout < 1, "dropout", "must be at least 0 and below 1"),
            (not 0 < self.learning_rate < math.inf, "learning_rate", "must be above 0"),
            (self.seq_len < least, "s_layers", "the last encoder would read none of --seq_len"),
            (calendar_only, "freq", "--embed {embed} knows hours (h) and minutes (t)"),
        ):
            if broken:
                raise UserError(f"--{name} {getattr(self, name)}: {text.format(**vars(self))}")

    @property
    def loss_text(self) -> str:
        """The loss written out, e.g. `loss = MSE - 2 Lip (time axis, max-normalised)`."""
        if not self.lip_coef:
            return "loss = MSE (no regularizer)"
        sign = "-" if self.lip_coef < 0 else "+"
        norm = "not normalised" if self.lip_norm == "none" else f"{self.lip_norm}-normalised"
        return f"loss = MSE {sign} {abs(self.lip_coef):g} Lip ({self.lip_axis} axis, {norm})"

    def identity(self, data_sha256: str) -> dict[str, Any]:
        """Return what defines the run's numbers, with settings that do not apply set to None."""
        row = MODELS[self.model]
        settings = asdict(self) | dict.fromkeys(row.unused)
        settings["freq"] = parse_freq(self.freq)
        settings["s_layers" if row.depth == "e_layers" else "e_layers"] = None
        if self.attn == "full" and "attn" not in row.unused:
            settings["factor"] = None
        for name, rules in RULES.items():
            if "needs" in rules and not getattr(self, rules["needs"]):
                settings[name] = None
            if "absent" in rules and settings[name] in (None, rules["absent"]):
                del settings[name]
        return {**settings, "data_sha256": data_sha256}

    def run_name(self, data_sha256: str, data_path: str = "") -> str:
        """Return the run folder's name: readable settings, then the identity's hash."""
        data = self.data
        if data == "custom" and data_path:
            data = re.sub(r"[^\w.-]+", "-", f"{Path(data_path).stem}-{self.target}")
            data = data.encode()[:60].decode(errors="ignore")  # file systems count bytes
        lengths = f"{self.seq_len}-{self.label_len}-{self.pred_len}"
        c = f"c{self.lip_coef:+g}_{self.lip_axis}" if self.lip_coef else "c0"
        readable = f"{self.model}_{data}_{self.features}_{lengths}_{c}_s{self.seed}"
        return f"{readable}-{identity_hash(self.identity(data_sha256))[:8]}"


RULES = {one.name: one.metadata for one in fields(Config)}
REGULARIZER = tuple(name for name, rules in RULES.items() if "regularizer" in rules)


def results_version(identity: dict[str, Any]) -> int:
    """Return the results version of an identity's runs, which its precision decides."""
    return RESULTS_VERSIONS[identity.get("amp", "off")]


def identity_hash(identity: dict[str, Any]) -> str:
    """Return the hash of an identity and of its results version, in full."""
    version = results_version(identity)
    return sha256_of(canonical({"results_version": version, **identity}).encode())


def setting_hash(identity: dict[str, Any]) -> str:
    """Return the hash of an identity without seed and regularizer, the same in a whole cell."""
    return identity_hash({k: v for k, v in identity.items() if k not in ("seed", *REGULARIZER)})


def settings_of(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of Config in a recorded identity, without what has no effect."""
    known = {k: v for k, v in identity.items() if k in RULES and v is not None}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}


@dataclass(frozen=True)
class Options:
    """Where and how to run: recorded beside the numbers, but not part of what defines them."""

    root_path: Path = flag(Path("./data/ETT/"), WHERE, "folder searched first for the file")
    data_path: str = flag("ETTh1.csv", WHERE, "file name of a custom data set")
    results: Path = flag(Path("./results"), WHERE, "folder of the runs' folders")
    itr: int = flag(2, RUN, "repetitions, with seeds seed, seed + 1, ...", range(1, 10_001))
    device: str = flag("auto", RUN, "auto, cpu, cuda or cuda:N")
    deterministic: bool = flag(False, RUN, "deterministic CUDA kernels, slower")
    threads: int | None = flag(None, RUN, "processor threads (all)", range(1, 1025), cls=int)
    force: bool = flag(False, RUN, "repeat a finished run; its folder is renamed and kept")
    wait: bool = flag(False, RUN, "wait for another process that has the run")
    do_predict: bool = flag(False, OUT, "forecast beyond the file's end: CSV, PNG")
    inverse: bool = flag(False, OUT, "print original units of all columns, not the target's alone")
    test_each_epoch: bool = flag(False, OUT, "record the test MSE of every epoch")
    save_forecasts: bool = flag(False, OUT, "keep all test forecasts (forecasts.npz)")
    weights: str = flag("keep", OUT, "the best weights of a run", ("keep", "drop"))
    tensorboard: bool = flag(False, OUT, "curves for TensorBoard, too")
    des: str = flag("test", OUT, "a label, recorded")
    use_gpu: bool | None = flag(None, OLD, "True or False (a GPU if there is one)", cls=parse_bool)
    gpu: int | None = flag(None, OLD, "number of the GPU", range(2**10), cls=int)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.tensorboard and not importlib.util.find_spec("tensorboard"):
            raise UserError("--tensorboard: pip install -r requirements-tensorboard.txt first")


def build_parser() -> Parser:
    """Return the parser made of the fields of Config and Options."""
    epilog = "Example: python main_informer.py --model informer --data demo --lam 2"
    for name, row in MODELS.items():
        for source, values in (("published", row.defaults), ("assumed", row.assumed)):
            epilog += f"\n{name}, {source}:" if values else ""
            epilog += "".join(f" --{flag} {value}" for flag, value in values.items())
    parser = Parser(
        prog="main_informer.py",
        description="Train and test Informer with loss = MSE + c * LipReg, c = -lam or +lam.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog,
    )
    headings = ("data", "model", LIP, "training", RUN, OUT, WHERE, OLD)
    groups = add_flags(parser, headings, Config, Options)
    lam = {"type": parse_finite, "metavar": "X", "help": "lambda, weight of LipReg (default: 0.0)"}
    groups[LIP].add_argument("--lam", default=0.0, **lam)
    sign = "minus: c = -lam, rougher input (Eq. 7); plus: c = +lam, smoother (Eq. 6)"
    sign = {"choices": ("minus", "plus"), "help": f"{sign} (default: minus)"}
    groups[LIP].add_argument("--lip_sign", default="minus", **sign)
    bf16 = {"action": "store_const", "const": "bf16", "help": "same as --amp bf16"}
    groups["training"].add_argument("--use_amp", dest="amp", **bf16)
    for name, why in NO_EFFECT.items():
        groups[OLD].add_argument(f"--{name}", nargs="?", metavar="X", help=f"no effect: {why}")
    return parser


def signed_coefficient(lam: float, sign: str) -> float:
    """Return c, for loss = MSE + c * LipReg; lambda 0 is 0.0 whichever sign was asked for."""
    return (lam if sign == "plus" else -lam) or 0.0


def parse(argv: list[str]) -> tuple[Config, Options]:
    """Turn a command line into checked settings; a UserError names the first mistake."""
    parser = build_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        word = unknown[0].split("=")[0]
        hint = nearest(word, parser._option_string_actions)
        raise UserError(f"{word}: unknown{hint}; --help lists all flags")
    row, known = MODELS[args.model], DATASETS.get(args.data)
    parser.set_defaults(**row.defaults | row.assumed)
    if known is None:  # the time features follow the file's step
        parser.set_defaults(freq=natural_freq("custom", args.root_path, args.data_path, args.embed))
    args = parser.parse_args(argv)  # what was asked for wins over these
    if known and args.target not in ("OT", known.target):
        print(f"note: {known.name} has target {known.target}; --target {args.target} is not used")
    args.target = known.target if known else args.target
    args.cols = args.cols and tuple(args.cols)
    args.freq, args.lip_coef = parse_freq(args.freq), signed_coefficient(args.lam, args.lip_sign)
    made: Any = [
        cls(**{f.name: getattr(args, f.name) for f in fields(cls)}) for cls in (Config, Options)
    ]
    config, options = made
    replace(config, seed=config.seed + options.itr - 1)  # the last seed must be valid, too
    return config, options
