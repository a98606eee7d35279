"""Training steps timed beside a peer's, one step of each in turn: python -m exp.bench."""

import argparse
import importlib.metadata
import importlib.util
import inspect
import itertools
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from exp.exp_basic import pick_device
from exp.exp_informer import Exp_Informer
from exp.flags import Parser, parse
from exp.state import TrainState
from models import MODELS
from utils.environment import describe, peak_memory_mb
from utils.errors import UserError
from utils.files import make_folder, write_atomic
from utils.output import run_command
from utils.progress import Meter

BATCH = 32
SIDE = 4096  # of the matrices whose product shows what the device can do
SETTINGS = [(48, 48, 24, 3), (720, 168, 24, 5)]  # seq_len, label_len, pred_len, factor
PEER = "neuralforecast"
PEERS = {"informer": "Informer", "transformer": "VanillaTransformer", "autoformer": "Autoformer"}
CONTENDERS = {  # and their flags, where they are ours
    "fp32": "--lam 2",
    "c0": "--lam 0",
    "bf16": "--lam 2 --amp bf16",
    "full": "--lam 2 --attn full",
    PEER: "",
}
Step = Callable[[], object]
Setting = tuple[int, ...]
answers: dict[str, Callable[[], float]] = {}  # what a contender's process can be asked for


def own_step(model: str, flags: str, setting: Setting, asked: argparse.Namespace) -> Step:
    """Return the training step that a run does."""
    seq_len, label_len, pred_len, factor = setting
    words = f"--model {model} --data {asked.data} --features S {flags} --lip_axis feature"
    words += f" --seq_len {seq_len} --label_len {label_len} --pred_len {pred_len}"
    words += f" --factor {factor} --d_model {asked.d_model} --d_ff {4 * asked.d_model}"
    exp = Exp_Informer(*parse([*words.split(), "--device", asked.device]))
    state = TrainState(exp.model, exp.config.learning_rate, 1, 1, Path("not-written"))
    windows = exp.data.train

    def step() -> None:
        exp.model.train()
        state.step = 0  # the trace has room for one
        batch = windows.batch(torch.randint(len(windows), (BATCH,), device=exp.device))
        exp.train_step(batch, state)

    return step


def peer_step(model: str, setting: Setting, asked: argparse.Namespace) -> Step:
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
        (network(windows) - truth).square().mean().backward()
        optimizer.step()

    return step


def prepare(model: str, contender: str, setting: Setting, asked: argparse.Namespace) -> None:
    """Build a contender in its own process."""
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    device, flags = torch.device(asked.device), CONTENDERS[contender]
    more = (setting, asked)
    step = own_step(model, flags, *more) if flags else peer_step(model, *more)
    matrix = torch.zeros(SIDE, SIDE, device=device)
    answers["step"] = lambda: _seconds(step, device)
    answers["memory"] = lambda: peak_memory_mb(device)
    answers["flops"] = lambda: _flops(step)
    answers["rate"] = lambda: 2 * SIDE**3 / _seconds(lambda: matrix @ matrix, device)


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


def _flops(step: Step) -> float:
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def compare(model: str, setting: Setting, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Time a model's contenders at one setting.

    Returns:
        One row a contender: seconds a step (median, min, max), how many times faster than the peer
        and how many percent slower than c = 0 (medians over rounds), peak memory, and the least
        time that the step's operations take at the rate of a large fp32 matrix product.
    """
    names = [name for name in asked.contenders if name != PEER or model in PEERS]
    times: dict[str, list[float]] = {name: [] for name in names}
    meter = Meter(f"{model} {'/'.join(map(str, setting))}", asked.rounds + 1)
    with ExitStack() as stack:
        context = multiprocessing.get_context("spawn")
        pools = {name: stack.enter_context(ProcessPoolExecutor(1, context)) for name in names}

        def ask(name: str, what: str) -> float:
            return pools[name].submit(answer, what).result()

        for name, pool in pools.items():
            pool.submit(prepare, model, name, setting, asked).result()
        for number in range(meter.total):
            for name in names:
                seconds = ask(name, "step")
                if number:  # the first warms up
                    times[name].append(seconds)
            meter.step()
        meter.close()
        rows = []
        for name in names:
            row: dict[str, Any] = {"setting": meter.label, "contender": name}
            row |= {"step_seconds": statistics.median(times[name])}
            row |= {"step_min": min(times[name]), "step_max": max(times[name])}
            row["times_faster"] = _ratio(times, PEER, name)
            row["percent_over_c0"] = 100 * (_ratio(times, name, "c0") - 1)
            row["peak_memory_mb"] = ask(name, "memory")
            rate = max(ask(name, "rate") for _ in range(3))
            row["floor_seconds"] = ask(name, "flops") / rate
            rows.append(row)
    return rows


def _ratio(times: dict[str, list[float]], one: str, other: str) -> float:
    if one not in times or other not in times:
        return float("nan")
    return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))


def _whole(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 1 on")
    return int(text)


def _setting(text: str) -> Setting:
    parts = text.split("/")
    if len(parts) != 4:
        raise argparse.ArgumentTypeError(f"{text}: must be seq_len/label_len/pred_len/factor")
    return tuple(map(_whole, parts))


def build_parser() -> Parser:
    """Return the command line."""
    help_format = argparse.ArgumentDefaultsHelpFormatter
    parser = Parser(prog="python -m exp.bench", description=__doc__, formatter_class=help_format)
    many: dict[str, Any] = {"nargs": "+", "metavar": "X"}
    add, text = parser.add_argument, "seq_len/label_len/pred_len/factor"
    add("--settings", type=_setting, default=SETTINGS, help=text, **many)
    text = f"of {', '.join(MODELS)}"
    add("--models", default=["informer"], choices=MODELS, help=text, **many)
    text = f"of {', '.join(CONTENDERS)}; ours but c0 with c = -2"
    add("--contenders", default=["fp32", "c0", "bf16", PEER], choices=CONTENDERS, help=text, **many)
    add("--rounds", type=_whole, default=10, metavar="N", help="steps of each contender")
    add("--threads", type=_whole, default=os.cpu_count(), metavar="N", help="processor threads")
    add("--device", default="cpu", metavar="cpu|cuda", help="where to compute")
    add("--data", default="demo", metavar="NAME", help="data set of our steps")
    add("--d_model", type=_whole, default=512, metavar="N", help="width, with 8 heads")
    add("--out", type=Path, default=Path("results/bench"), metavar="FOLDER", help="of steps.csv")
    return parser


def main(words: list[str]) -> int:
    """Measure, print the table, and write it as CSV after each setting."""
    asked = build_parser().parse_args(words)
    own = ["--model", "informer", "--data", asked.data, "--device", asked.device]
    found = describe(pick_device(parse(own)[1]))
    notes = {name: found[name] for name in ("processor", "device", "cores", "torch")}
    notes["git_commit"] = f"{found['git_commit']}{'+' if found['git_dirty'] else ''}"
    notes |= {name: getattr(asked, name) for name in ("data", "d_model", "threads", "rounds")}
    if importlib.util.find_spec(PEER):
        notes[PEER] = importlib.metadata.version(PEER)
    else:
        print(f"note: without {PEER} (requirements-bench.txt) there is no peer to compare with")
        asked.contenders = [name for name in asked.contenders if name != PEER]
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    make_folder(asked.out)
    head = "".join(f"# {name}: {value}\n" for name, value in notes.items())
    rows: list[dict[str, Any]] = []
    for model, setting in itertools.product(asked.models, asked.settings):
        try:
            rows += compare(model, setting, asked)
        except BrokenProcessPool as error:
            raise UserError("a contender's process was killed (out of memory?)") from error
        table = pd.DataFrame(rows).to_csv(index=False, float_format="%.4g")
        write_atomic(asked.out / "steps.csv", f"{head}{table}".encode())
    print(pd.DataFrame(rows).to_string(index=False, na_rep="-", float_format="%.3g"))
    print(f"wrote {asked.out / 'steps.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
