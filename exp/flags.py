"""Command line of main_informer.py: flags -> Config (what) and Options (where and how)."""

import argparse
import dataclasses
import math
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from data.data_loader import natural_freq
from data.registry import DATASETS
from exp.config import Config, check_choice, check_value, setting
from models import MODELS, Model
from utils.errors import UserError, nearest
from utils.files import read_json
from utils.timefeatures import parse_freq

FOLDERS = "where things are"
RUNNING = "running"
OUTPUT = "what comes out"
COMPATIBLE = "kept for commands of the released code"
WINDOWS = ("best", "median", "worst", "1/4", "1/2", "3/4")
SIGNS = ("minus", "plus")


@dataclass(frozen=True)
class Options:
    """Where and how to run: recorded beside the numbers, but not part of what defines them."""

    root_path: Path = setting(Path("./data/ETT/"), FOLDERS, "folder searched first for the file")
    data_path: str = setting("ETTh1.csv", FOLDERS, "file name of a custom data set")
    results: Path = setting(Path("./results"), FOLDERS, "folder of the runs' folders")
    checkpoints: Path | None = setting(None, FOLDERS, "another folder for checkpoints and weights")
    itr: int = setting(
        2, RUNNING, "repetitions, with seeds seed, seed + 1, ...", low=1, high=10_001
    )
    device: str = setting("auto", RUNNING, "auto, cpu, cuda or cuda:N")
    deterministic: bool = setting(False, RUNNING, "deterministic CUDA kernels, slower", on=True)
    threads: int | None = setting(None, RUNNING, "processor threads (all cores)", low=1, high=1025)
    force: bool = setting(False, RUNNING, "run a finished run anew, its record kept aside", on=True)
    wait: bool = setting(False, RUNNING, "wait for another process that has the run", on=True)
    dry_run: bool = setting(False, RUNNING, "check all, try a batch, write nothing", on=True)
    test_only: bool = setting(False, RUNNING, "test the weights of --load, no training", on=True)
    load: Path | None = setting(None, RUNNING, "weights of this project's or of Informer2020's")
    scaler_from: Path | None = setting(
        None, RUNNING, "file whose training rows scale what --test_only tests (the tested file)"
    )
    do_predict: bool = setting(False, OUTPUT, "forecast beyond the file's end: CSV, PNG", on=True)
    inverse: bool = setting(False, OUTPUT, "report errors in original units, too", on=True)
    save_forecasts: bool = setting(False, OUTPUT, "keep all test forecasts (csv.gz)", on=True)
    plot_windows: str = setting(
        "best,median,worst", OUTPUT, f"test windows to plot: {', '.join(WINDOWS)}, numbers from 0"
    )
    weights: str = setting("keep", OUTPUT, "best weights of a run", choices=("keep", "drop"))
    tensorboard: bool = setting(False, OUTPUT, "curves for TensorBoard, too", on=True)
    des: str = setting("test", OUTPUT, "a label, recorded")
    use_gpu: bool | None = setting(None, COMPATIBLE, "True or False (a GPU where there is one)")
    gpu: int | None = setting(None, COMPATIBLE, "number of the GPU", low=0)
    use_multi_gpu: bool = setting(False, COMPATIBLE, "no effect: python -m exp.sweep", on=True)
    devices: str = setting("0,1,2,3", COMPATIBLE, "no effect")
    num_workers: int = setting(0, COMPATIBLE, "no effect: windows are indexed in place", low=0)
    enc_in: int | None = setting(None, COMPATIBLE, "input columns (counted in the file)", low=1)
    dec_in: int | None = setting(None, COMPATIBLE, "input columns (counted in the file)", low=1)
    c_out: int | None = setting(None, COMPATIBLE, "output columns (counted in the file)", low=1)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_value(field, getattr(self, field.name))
        if not re.fullmatch(r"[\w+=@%,-][\w+=@%, .-]*", self.des) or ".." in self.des:
            raise UserError(f"--des {self.des}: a label is a plain word, without / or ..")
        if self.test_only and self.load is None:
            raise UserError("--test_only: name the weights with --load FILE")
        if self.load is not None and not self.test_only:
            raise UserError("--load: only --test_only reads weights; training resumes by itself")
        if self.scaler_from is not None and not self.test_only:
            raise UserError("--scaler_from: a run scales by its own training rows; leave it out")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the whole usage."""
        raise UserError(message.replace("argument ", "", 1))


def build_parser() -> Parser:
    """Return the parser made of the fields of Config and Options."""
    parser = Parser(
        prog="main_informer.py",
        description="Train and test Informer with loss = MSE + c * LipReg, c = -lam or +lam.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(
            [
                "Example: python main_informer.py --model informer --data demo --lam 2",
                *(f"{name}: {_own(row)}" for name, row in MODELS.items() if row.presumed),
            ]
        ),
    )
    groups: dict[str, Any] = {}
    for name in ("data", "model", "regularizer", "training", RUNNING, OUTPUT, FOLDERS, COMPATIBLE):
        groups[name] = parser.add_argument_group(name)
    for settings in (Config, Options):
        hints = typing.get_type_hints(settings)
        for field in dataclasses.fields(settings):
            if not field.metadata.get("derived"):
                _add_flag(groups[field.metadata["group"]], field, hints[field.name])
    group = groups["regularizer"]
    group.add_argument("--lam", type=number, default=0.0, metavar="X", help="lambda (default: 0.0)")
    signs = "minus: c = -lam, rougher input (Eq. 7); plus: c = +lam, smoother (Eq. 6)"
    group.add_argument(
        "--lip_sign", default="minus", metavar="|".join(SIGNS), help=f"{signs} (default: minus)"
    )
    groups["training"].add_argument("--use_amp", action="store_true", help="same as --amp bf16")
    return parser


def _own(row: Model) -> str:
    """Write a model's own defaults out."""
    kinds = ("published", row.defaults), ("presumed, unpublished", row.presumed)
    return "; ".join(
        f"{kind}: {', '.join(f'--{k} {v}' for k, v in own.items())}" for kind, own in kinds
    )


def _add_flag(group: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    rules, default, flag = field.metadata, field.default, f"--{field.name}"
    if rules.get("off") or rules.get("on"):
        group.add_argument(flag, action=f"store_{str(not default).lower()}", help=rules["text"])
        return
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    kind = kinds[0] if isinstance(hint, types.UnionType) else hint  # int of int | None
    many = rules.get("many")
    reads = str if many else _depths if typing.get_origin(kind) is tuple else kind
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    group.add_argument(
        flag,
        type={bool: _truth, float: number}.get(reads, reads),
        nargs="+" if many else None,
        default=default,
        required=bool(rules.get("required")),
        metavar="|".join(map(str, rules["choices"])) if "choices" in rules else "X",
        help=rules["text"] + (f" (default: {shown})" if shown not in (None, "") else ""),
    )


def _truth(word: str) -> bool:
    """Read a boolean word; the released code took every word for true."""
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if word.lower() not in known:
        raise argparse.ArgumentTypeError(f"{word}: must be True or False")
    return known[word.lower()]


def number(word: str) -> float:
    """Read a finite number (a type of argparse)."""
    try:
        value = float(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word}: must be a number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{word}: must be a finite number")
    return value


def _depths(word: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in word.replace(" ", "").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word}: must be numbers with commas, 3,2,1") from None


def signed_coefficient(lam: float, sign: str) -> float:
    """Return c, for loss = MSE + c * LipReg; lambda 0 is 0.0 whichever sign was asked for."""
    coefficient = lam if sign == "plus" else -lam
    return coefficient or 0.0


def parse(words: list[str]) -> tuple[Config, Options]:
    """Turn a command line, without the program's name, into checked settings.

    Raises:
        UserError: the first mistake found, in one line.
        SystemExit: after --help.
    """
    parser = build_parser()
    asked, unknown = parser.parse_known_args(words)
    if unknown:
        flag = unknown[0].split("=")[0]
        flags = [option for action in parser._actions for option in action.option_strings]
        raise UserError(f"{flag}: unknown{nearest(flag, flags)}; --help lists all flags")
    given = {word.split("=")[0] for word in words}
    if asked.use_amp:
        asked.amp = "bf16"
    asked.cols = tuple(asked.cols) if asked.cols else None
    check_choice("model", asked.model, list(MODELS))
    row = MODELS[asked.model]
    for name, value in {**row.defaults, **row.presumed}.items():
        if f"--{name}" not in given:
            setattr(asked, name, value)
    if asked.load is not None:
        _apply_record(asked, given)
    check_choice("data", asked.data, [*DATASETS, "custom"])
    check_choice("lip_sign", asked.lip_sign, SIGNS)
    asked.lip_coef = signed_coefficient(asked.lam, asked.lip_sign)
    if asked.embed != "timeF" and parse_freq(asked.freq) not in "ht":
        raise UserError(
            f"--freq {asked.freq}: --embed {asked.embed} knows hours (h) and minutes (t)"
        )
    _apply_data_set(asked, given)
    config, options = _fill(Config, asked), _fill(Options, asked)
    dataclasses.replace(config, seed=config.seed + options.itr - 1)  # the last seed must do, too
    return config, options


def _fill(settings: Any, asked: argparse.Namespace) -> Any:
    return settings(**{f.name: getattr(asked, f.name) for f in dataclasses.fields(settings)})


def _apply_record(asked: argparse.Namespace, given: set[str]) -> None:
    """Take model and lengths of --load from the record beside the weights, if there is one."""
    try:
        identity = read_json(asked.load.parent / "config.json")["identity"]
    except (FileNotFoundError, NotADirectoryError):
        return  # weights from elsewhere: the flags alone describe them
    for field in dataclasses.fields(Config):
        name, value = field.name, identity.get(field.name)
        apart = {"data", "target", "cols", "seed"}  # the weights may be tested on other data
        if value is None or name in apart or field.metadata["group"] not in ("data", "model"):
            continue
        value = tuple(value) if isinstance(value, list) else value
        if f"--{name}" in given and getattr(asked, name) != value:
            raise UserError(
                f"--{name} {getattr(asked, name)}: the record beside {asked.load} says {value}; "
                "leave the flag out"
            )
        setattr(asked, name, value)


def _apply_data_set(asked: argparse.Namespace, given: set[str]) -> None:
    """Let a registered data set say its own target, and a custom file its own frequency."""
    if asked.data == "custom":
        if "--freq" not in given:  # the time features follow the file's step
            asked.freq = natural_freq("custom", asked.root_path, asked.data_path, asked.embed)
        return
    target = DATASETS[asked.data].target
    if asked.target != target and "--target" in given:
        print(f"note: {asked.data} has target {target}; --target {asked.target} is not used")
    asked.target = target
