"""Training steps timed beside a peer's, one step of each in turn: python -m exp.bench."""

import argparse
import inspect
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from exp.config import Parser, parse
from exp.exp_basic import pick_device
from exp.exp_informer import Exp_Informer
from models import MODELS
from models.layers import keep_freed_memory
from utils.environment import environment, peak_memory_mb
from utils.files import UserError, make_folder, write_atomic
from utils.output import run_command
from utils.progress import Meter

BATCH = 32
SIDE = 4096  # of the matrices whose product shows what the device can do
PEER = "neuralforecast"
PEERS = {"informer": "Informer", "transformer": "VanillaTransformer", "autoformer": "Autoformer"}
CONTENDERS = {  # and their flags, where they are ours
    "fp32": "--lam 2",
    "c0": "--lam 0",
    "bf16": "--lam 2 --amp bf16",
    "full": "--lam 2 --attn full",
    PEER: "",
    f"{PEER}_bf16": "",
}
Step = Callable[[], object]
answers: dict[str, Callable[[], float]] = {}  # what a contender's process can be asked for


class Setting(NamedTuple):
    """Lengths of a step, and ProbSparse's factor; written as its flag reads it."""

    seq_len: int
    label_len: int
    pred_len: int
    factor: int

    def __repr__(self) -> str:
        return "/".join(map(str, self))


SETTINGS = [Setting(48, 48, 24, 3), Setting(720, 168, 24, 5)]


def own_step(model: str, flags: str, setting: Setting, asked: argparse.Namespace) -> Step:
    """Return the training step that a run does."""
    words = f"--model {model} --data {asked.data} --features S {flags} --lip_axis feature"
    words += " --seq_len {} --label_len {} --pred_len {} --factor {}".format(*setting)
    words += f" --d_model {asked.d_model} --d_ff {4 * asked.d_model} --device {asked.device}"
    exp = Exp_Informer(*parse(words.split()))
    optimizer = torch.optim.Adam(exp.model.parameters(), fused=True)
    exp.model.train()
    count = len(exp.data.train)
    return lambda: exp.train_step(torch.randint(count, (BATCH,), device=exp.device), optimizer)


def peer_step(model: str, bf16: bool, setting: Setting, asked: argparse.Namespace) -> Step:
    """Return a training step of neuralforecast's model of the same sizes, on random numbers."""
    seq_len, label_len, pred_len, factor = setting
    build = getattr(import_module("neuralforecast.models"), PEERS[model])
    losses = import_module("neuralforecast.losses.pytorch")
    sizes = {"h": pred_len, "input_size": seq_len, "futr_exog_list": list("abcd")}
    sizes |= {"hidden_size": asked.d_model, "conv_hidden_size": 4 * asked.d_model}
    sizes |= {"n_head": 8, "encoder_layers": 2, "decoder_layers": 1}
    sizes |= {"factor": factor, "dropout": 0.05, "loss": losses.MSE()}
    known = inspect.signature(build).parameters
    network = build(**{name: value for name, value in sizes.items() if name in known})
    network.label_len = label_len  # its constructor only takes a share of the input
    network.train().to(asked.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    with torch.device(asked.device):
        marks, series = torch.rand(BATCH, seq_len + pred_len, 4), torch.randn(BATCH, seq_len, 1)
        truth = torch.randn(BATCH, pred_len, 1)
    windows = {"insample_y": series, "futr_exog": marks - 0.5, "hist_exog": None, "stat_exog": None}

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(torch.device(asked.device).type, torch.bfloat16, enabled=bf16):
            forecast = network(windows)
        (forecast - truth).square().mean().backward()
        optimizer.step()

    return step


def prepare(model: str, contender: str, setting: Setting, asked: argparse.Namespace) -> None:
    """Build a contender in its own process."""
    torch.set_num_threads(asked.threads)
    keep_freed_memory()  # as in a run
    torch.backends.cudnn.allow_tf32 = False  # the peer's, as ours
    torch.manual_seed(0)
    device, flags, more = torch.device(asked.device), CONTENDERS[contender], (setting, asked)
    bf16 = contender.endswith("bf16")
    step = own_step(model, flags, *more) if flags else peer_step(model, bf16, *more)
    with FlopCounterMode(display=False) as counter:
        step()
    flops = float(counter.get_total_flops())
    for _ in range(2 if device.type == "cuda" else 0):  # the first ones load kernels
        _seconds(step, device)
    answers["step"] = lambda: _seconds(step, device)
    answers["memory"] = lambda: peak_memory_mb(device)
    answers["flops"] = lambda: flops
    answers["rate"] = lambda: _rate(device)


def _rate(device: torch.device) -> float:
    matrix = torch.rand(SIDE, SIDE, device=device)  # made here: no part of a step's peak
    return 2 * SIDE**3 / min(_seconds(lambda: matrix @ matrix, device) for _ in range(3))


def answer(what: str) -> float:
    """Do something in a contender's process."""
    return answers[what]()


def _seconds(step: Step, device: torch.device) -> float:
    if device.type == "cpu":
        begun = time.perf_counter()
        step()
        return time.perf_counter() - begun
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    step()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1e3


def compare(model: str, setting: Setting, asked: argparse.Namespace) -> pd.DataFrame:
    """Time a model's contenders at one setting: a row for each.

    To the summary of its times it has its process's peak memory, and the least time that the
    step's operations take at the rate of a large fp32 matrix product.
    """
    names = [name for name in asked.contenders if PEER not in name or model in PEERS]
    meter = Meter(f"{model} {setting}", asked.rounds + 1)
    with ExitStack() as stack:
        context = multiprocessing.get_context("spawn")
        pools = {name: stack.enter_context(ProcessPoolExecutor(1, context)) for name in names}
        for name, pool in [*pools.items()]:
            try:
                pool.submit(prepare, model, name, setting, asked).result()
            except BrokenProcessPool:
                raise
            except Exception as error:  # one that cannot run must not cost the others'
                if len(pools) == 1:
                    raise
                why = error if isinstance(error, UserError) else repr(error)
                print(f"note: {name} is left out: {why}", flush=True)
                del pools[name]

        def ask(what: str) -> dict[str, float]:
            return {name: pool.submit(answer, what).result() for name, pool in pools.items()}

        rounds = []
        for _ in range(meter.total):
            rounds.append(ask("step"))
            meter.step()
        meter.close()
        table = summary(pd.DataFrame(rounds[1:], columns=[*pools]))  # the first warms up
        table["peak_memory_mb"] = pd.Series(ask("memory"))
        rate = max(ask("rate").values())  # the device's, whoever asks
        table["floor_seconds"] = pd.Series(ask("flops")) / rate
    table = table.rename_axis("contender").reset_index()
    table.insert(0, "setting", meter.label)
    return table


def summary(times: pd.DataFrame) -> pd.DataFrame:
    """Sum up seconds a step [rounds, contenders]: median and range, and medians over rounds.

    These say how many times faster than the peer, and how many percent slower than c = 0.
    """
    others = times.reindex(columns=[PEER, "c0"])
    return pd.DataFrame(
        {
            "step_seconds": times.median(),
            "step_min": times.min(),
            "step_max": times.max(),
            "times_faster": times.rdiv(others[PEER], axis=0).median(),
            "percent_over_c0": 100 * (times.div(others["c0"], axis=0).median() - 1),
        }
    )


def setting(text: str) -> Setting:
    """Read seq_len/label_len/pred_len/factor (a type of argparse)."""
    try:
        return Setting(*map(int, text.split("/")))
    except (TypeError, ValueError):
        form = "must be seq_len/label_len/pred_len/factor"
        raise argparse.ArgumentTypeError(f"{text}: {form}") from None


def build_parser() -> Parser:
    """Return the command line."""
    help_format = argparse.ArgumentDefaultsHelpFormatter
    parser = Parser(prog="python -m exp.bench", description=__doc__, formatter_class=help_format)
    many: dict[str, Any] = {"nargs": "+", "metavar": "X"}
    add, text = parser.add_argument, "seq_len/label_len/pred_len/factor"
    add("--settings", type=setting, default=SETTINGS, help=text, **many)
    add("--models", default=["informer"], choices=MODELS, help=f"of {', '.join(MODELS)}", **many)
    text = f"of {', '.join(CONTENDERS)}; ours but c0 with c = -2"
    add("--contenders", default=["fp32", "c0", "bf16", PEER], choices=CONTENDERS, help=text, **many)
    add("--rounds", type=int, default=10, metavar="N", help="steps of each contender")
    add("--threads", type=int, default=os.cpu_count(), metavar="N", help="processor threads")
    add("--device", default="cpu", metavar="cpu|cuda", help="where to compute")
    add("--data", default="demo", metavar="NAME", help="data set of our steps")
    add("--d_model", type=int, default=512, metavar="N", help="width, with 8 heads")
    add("--out", type=Path, default=Path("results/bench"), metavar="FOLDER", help="of steps.csv")
    return parser


def main(words: list[str]) -> int:
    """Measure, print the table, and write it as CSV after each setting."""
    asked = build_parser().parse_args(words)
    own = f"--model informer --data {asked.data} --device {asked.device} --threads {asked.threads}"
    found = environment(pick_device(parse(own.split())[1]))
    notes = {name: found[name] for name in ("processor", "device", "cores", "torch")}
    notes["git_commit"] = f"{found['git_commit']}{'+' if found['git_dirty'] else ''}"
    notes |= {name: getattr(asked, name) for name in ("data", "d_model", "threads", "rounds")}
    try:
        notes[PEER] = metadata.version(PEER)
    except metadata.PackageNotFoundError:
        print(f"note: without {PEER} (requirements-bench.txt) there is no peer to compare with")
        asked.contenders = [name for name in asked.contenders if PEER not in name]
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    make_folder(asked.out)
    head = "".join(f"# {name}: {value}\n" for name, value in notes.items())
    table = pd.DataFrame()
    for model, lengths in itertools.product(asked.models, asked.settings):
        try:
            table = pd.concat([table, compare(model, lengths, asked)])
        except BrokenProcessPool as error:
            raise UserError("a contender's process was killed (out of memory?)") from error
        text = table.to_csv(index=False, float_format="%.4g")
        write_atomic(asked.out / "steps.csv", f"{head}{text}".encode())
    print(table.to_string(index=False, na_rep="-", float_format="%.3g"))
    print(f"wrote {asked.out / 'steps.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
