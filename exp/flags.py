"""Command line of main_informer.py: flags -> Config (what) and Options (where and how)."""

import argparse
import dataclasses
import importlib.util
import math
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from data.data_loader import natural_freq
from data.registry import DATASETS
from exp.config import Config, check_choice, check_values, setting, settings_of
from models import MODELS
from utils.errors import UserError, nearest
from utils.files import read_json

WHERE = "where things are"
RUNNING = "running"
OUTPUT = "what comes out"
OLD = "kept for commands of the released code"
GROUPS = ("data", "model", "regularizer", "training", RUNNING, OUTPUT, WHERE, OLD)
SIGNS = ("minus", "plus")


def truth(word: str) -> bool:
    """Read a boolean word (a type of argparse); the released code took every word for true."""
    if word.lower() not in ConfigParser.BOOLEAN_STATES:
        raise argparse.ArgumentTypeError(f"{word}: must be True or False")
    return ConfigParser.BOOLEAN_STATES[word.lower()]


def number(word: str) -> float:
    """Read a finite number (a type of argparse)."""
    if not math.isfinite(value := float(word)):
        raise argparse.ArgumentTypeError(f"{word}: must be a finite number")
    return value


def depths(word: str) -> tuple[int, ...]:
    """Read numbers with commas (a type of argparse)."""
    return tuple(int(part) for part in word.split(","))


@dataclass(frozen=True)
class Options:
    """Where and how to run: recorded beside the numbers, but not part of what defines them."""

    root_path: Path = setting(Path("./data/ETT/"), WHERE, "folder searched first for the file")
    data_path: str = setting("ETTh1.csv", WHERE, "file name of a custom data set")
    results: Path = setting(Path("./results"), WHERE, "folder of the runs' folders")
    checkpoints: Path | None = setting(
        None, WHERE, "another folder for checkpoints and weights", kind=Path
    )
    itr: int = setting(
        2, RUNNING, "repetitions, with seeds seed, seed + 1, ...", low=1, high=10_001
    )
    device: str = setting("auto", RUNNING, "auto, cpu, cuda or cuda:N")
    deterministic: bool = setting(False, RUNNING, "deterministic CUDA kernels, slower")
    threads: int | None = setting(
        None, RUNNING, "processor threads (all cores)", kind=int, low=1, high=1025
    )
    force: bool = setting(False, RUNNING, "repeat a finished run; its folder is renamed and kept")
    wait: bool = setting(False, RUNNING, "wait for another process that has the run")
    dry_run: bool = setting(False, RUNNING, "check all, try a batch, write nothing")
    test_only: bool = setting(False, RUNNING, "test the weights of --load, no training")
    load: Path | None = setting(
        None, RUNNING, "weights of this project's or of Informer2020's", kind=Path
    )
    scaler_from: Path | None = setting(
        None, RUNNING, "file whose training rows scale what --test_only tests", kind=Path
    )
    do_predict: bool = setting(False, OUTPUT, "forecast beyond the file's end: CSV, PNG")
    inverse: bool = setting(False, OUTPUT, "report errors in original units, too")
    test_each_epoch: bool = setting(False, OUTPUT, "record the test MSE of every epoch")
    save_forecasts: bool = setting(False, OUTPUT, "keep all test forecasts (csv.gz)")
    plot_windows: str = setting(
        "best,median,worst",
        OUTPUT,
        "test windows to plot: best, median, worst, 1/4, 1/2, 3/4, or numbers from 0",
    )
    weights: str = setting(
        "keep", OUTPUT, "keep or drop the best weights of a run", choices=("keep", "drop")
    )
    tensorboard: bool = setting(False, OUTPUT, "curves for TensorBoard, too")
    des: str = setting("test", OUTPUT, "a label, recorded")
    use_gpu: bool | None = setting(
        None, OLD, "True or False (default: a GPU if there is one)", kind=truth
    )
    gpu: int | None = setting(None, OLD, "number of the GPU", kind=int, low=0)
    use_multi_gpu: bool = setting(False, OLD, "no effect: python -m exp.sweep uses all GPUs")
    devices: str = setting("0,1,2,3", OLD, "no effect")
    num_workers: int = setting(0, OLD, "no effect: windows are indexed in place", low=0)
    enc_in: int | None = setting(None, OLD, "input columns (counted in the file)", kind=int)
    dec_in: int | None = setting(None, OLD, "input columns (counted in the file)", kind=int)
    c_out: int | None = setting(None, OLD, "output columns (counted in the file)", kind=int)

    def __post_init__(self) -> None:
        check_values(self)
        if self.test_only and self.load is None:
            raise UserError("--test_only: name the weights with --load FILE")
        if not self.test_only and (self.load or self.scaler_from):
            raise UserError("--load, --scaler_from: for --test_only; training resumes by itself")
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
        if row.presumed:
            known, guess = (
                " ".join(f"--{flag} {value}" for flag, value in part.items())
                for part in (row.defaults, row.presumed)
            )
            epilog += f"\n{name}: published {known}; presumed (unpublished) {guess}"
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
        type=number,
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
    kind = rules.get("kind", type(default))
    if kind is tuple:
        kind, default = depths, ",".join(map(str, default))
    shown = "" if default in (None, "") else " (default: %(default)s)"
    group.add_argument(
        flag,
        type=kind,
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
    parser.set_defaults(**own | row.defaults | row.presumed | recorded)
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
