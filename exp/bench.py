"""Training steps timed beside neuralforecast's, one step of each in turn: python -m exp.bench."""

import argparse
import inspect
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import exp.exp_informer
import models.embed
from exp.config import Parser, parse
from exp.exp_basic import pick_device
from models import MODELS
from models.layers import keep_freed_memory
from utils.environment import environment, peak_memory_mb
from utils.files import make_folder, write_atomic
from utils.output import run_command

BATCH = 32
PEER = "neuralforecast"
PEER_THERE = util.find_spec(PEER) is not None
PEERS = {"informer": "Informer", "transformer": "VanillaTransformer", "autoformer": "Autoformer"}
CONTENDERS = {  # and their flags, where they are ours
    "fp32": "--lam 2",
    "c0": "--lam 0",  # LipReg is measured, not trained on
    "nolip": "--lam 0",  # LipReg is not computed at all
    "bf16": "--lam 2 --amp bf16",
    PEER: "",
}
steps: list[Callable[[], object]] = []  # the one of a contender's process


def own_step(model: str, name: str, setting: str, args: argparse.Namespace) -> Callable[[], object]:
    """Return the training step that a run does on the demo's data."""
    lengths = zip(("seq_len", "label_len", "pred_len", "factor"), setting.split("/"), strict=True)
    words = f"--model {model} --data demo --features S {CONTENDERS[name]} --lip_axis feature"
    words += f" --d_model {args.d_model} --d_ff {4 * args.d_model} --device {args.device}"
    words += "".join(f" --{flag} {value}" for flag, value in lengths)
    if name == "nolip":
        none = torch.zeros(3, device=args.device)
        models.embed.LipReg = lambda *_, **__: none[0]
        exp.exp_informer.lip_metrics = lambda *_: none
    run = exp.exp_informer.Exp_Informer(*parse(words.split()))
    optimizer = torch.optim.Adam(run.model.parameters(), lr=1e-4, fused=True)
    run.model.train()
    count = len(run.data.train)
    return lambda: run.train_step(torch.randint(count, (BATCH,), device=run.device), optimizer)


def peer_step(model: str, _: str, setting: str, args: argparse.Namespace) -> Callable[[], object]:
    """Return a training step of neuralforecast's model of the same sizes, on random numbers."""
    seq_len, label_len, pred_len, factor = map(int, setting.split("/"))
    build = getattr(import_module("neuralforecast.models"), PEERS[model])
    losses = import_module("neuralforecast.losses.pytorch")
    sizes = {"h": pred_len, "input_size": seq_len, "futr_exog_list": list("abcd")}
    sizes |= {"hidden_size": args.d_model, "conv_hidden_size": 4 * args.d_model}
    sizes |= {"n_head": 8, "encoder_layers": 2, "decoder_layers": 1}
    sizes |= {"factor": factor, "dropout": 0.05, "loss": losses.MSE()}
    known = inspect.signature(build).parameters
    network = build(**{name: value for name, value in sizes.items() if name in known})
    network.label_len = label_len  # its constructor only takes a share of the input
    network.train().to(args.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    with torch.device(args.device):
        marks, series = torch.rand(BATCH, seq_len + pred_len, 4), torch.randn(BATCH, seq_len, 1)
        truth = torch.randn(BATCH, pred_len, 1)
    windows = {"insample_y": series, "futr_exog": marks - 0.5, "hist_exog": None, "stat_exog": None}

    def step() -> None:
        optimizer.zero_grad()
        (network(windows) - truth).square().mean().backward()
        optimizer.step()

    return step


def prepare(model: str, name: str, setting: str, args: argparse.Namespace) -> None:
    """Build a contender in its own process."""
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as in a run
    torch.manual_seed(0)
    build = peer_step if name == PEER else own_step
    steps.append(build(model, name, setting, args))


def timed(device: str) -> tuple[float, float]:
    """Do a step in a contender's process: seconds, and the process's peak memory so far in MB."""
    begun = time.perf_counter()
    steps[0]()
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun, peak_memory_mb(torch.device(device))


def compare(model: str, setting: str, args: argparse.Namespace) -> pd.DataFrame:
    """Time a model's contenders at one setting: a row for each."""
    names = [n for n in args.contenders if n != PEER or (PEER_THERE and model in PEERS)]
    rounds: list[dict[str, tuple[float, float]]] = []
    with ExitStack() as stack:
        spawn = multiprocessing.get_context("spawn")
        pools = {name: stack.enter_context(ProcessPoolExecutor(1, spawn)) for name in names}
        for name, pool in pools.items():
            pool.submit(prepare, model, name, setting, args).result()
        for _ in range(args.rounds + 1):
            rounds.append({n: p.submit(timed, args.device).result() for n, p in pools.items()})
    seconds = pd.DataFrame([{n: one[0] for n, one in row.items()} for row in rounds[1:]])
    table = summary(seconds)  # without the first round, which warms up
    table["peak_memory_mb"] = pd.Series({name: one[1] for name, one in rounds[-1].items()})
    table.insert(0, "setting", f"{model} {setting}")
    return table.rename_axis("contender").reset_index()


def summary(times: pd.DataFrame) -> pd.DataFrame:
    """Sum up seconds a step [rounds, contenders]: median and range; ratios' medians over rounds."""
    table = pd.DataFrame({"seconds": times.median(), "least": times.min(), "most": times.max()})
    for name, other in {"peer": PEER, "c0": "c0", "nolip": "nolip"}.items():
        if other in times:
            table[f"times_{name}"] = times.div(times[other], axis=0).median()
    return table


def main(argv: list[str]) -> int:
    """Measure, print the table, and write it as CSV."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = Parser(prog="python -m exp.bench", description=__doc__, formatter_class=formatter)
    add, lengths = parser.add_argument, ["48/48/24/3", "720/168/24/5"]
    many: dict[str, Any] = {"nargs": "+", "metavar": "X"}
    add("--settings", default=lengths, help="seq_len/label_len/pred_len/factor", **many)
    add("--models", default=["informer"], choices=MODELS, help="models", **many)
    add("--contenders", default=[*CONTENDERS], choices=CONTENDERS, help="what is timed", **many)
    for name, value in {"rounds": 10, "threads": os.cpu_count(), "d_model": 512}.items():
        add(f"--{name}", type=int, default=value, metavar="N", help="how many")
    add("--device", default="cpu", metavar="cpu|cuda", help="where to compute")
    add("--out", type=Path, default=Path("results/bench/steps.csv"), metavar="FILE", help="CSV")
    args = parser.parse_args(argv)
    own = f"--model informer --data demo --device {args.device} --threads {args.threads}"
    notes = environment(pick_device(parse(own.split())[1]))
    kept = ("processor", "device", "cores", "threads", "torch", "git_commit", "git_dirty")
    head = {name: notes[name] for name in kept} | {"threads": args.threads, "width": args.d_model}
    head |= {"load": os.getloadavg()[0], PEER: metadata.version(PEER) if PEER_THERE else None}
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    pairs = itertools.product(args.models, args.settings)
    table = pd.concat([compare(model, setting, args) for model, setting in pairs])
    make_folder(args.out.parent)
    text = "".join(f"# {name}: {value}\n" for name, value in head.items())
    write_atomic(args.out, (text + table.to_csv(index=False, float_format="%.4g")).encode())
    print(f"{table.to_string(index=False, na_rep='-', float_format='%.3g')}\nwrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
