"""Training steps timed beside neuralforecast's, one step of each in turn: python -m exp.bench."""

import argparse
import functools
import inspect
import itertools
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module, util
from unittest import mock

import pandas as pd
import torch

from exp.config import Parser, parse
from exp.exp_informer import Exp_Informer
from models import MODELS
from models.layers import keep_freed_memory
from utils.environment import environment
from utils.output import run_command

BATCH = 32
PEER = "neuralforecast"
PEERS = {"informer": "Informer", "transformer": "VanillaTransformer", "autoformer": "Autoformer"}
CONTENDERS = {  # and their flags, where they are ours
    "fp32": "--lam 2",
    "c0": "--lam 0",  # LipReg is measured, not trained on
    "nolip": "--lam 0",  # LipReg is not computed at all
    "bf16": "--lam 2 --amp bf16",
    PEER: "",
}


def own_step(flags: str) -> Callable[[], object]:
    """Return the training step that a run with these flags does on the demo's data."""
    run = Exp_Informer(*parse(f"--data demo --features S --lip_axis feature {flags}".split()))
    optimizer = torch.optim.Adam(run.model.parameters(), lr=1e-4, fused=True)
    run.model.train()
    count = len(run.data.train)
    return lambda: run.train_step(torch.randint(count, (BATCH,), device=run.device), optimizer)


def without_lipreg(step: Callable[[], object], device: torch.device) -> None:
    """Do a step in which no LipReg is computed."""
    zeros = torch.zeros(3, device=device)
    with (
        mock.patch("models.embed.LipReg", lambda *_, **__: zeros[0]),
        mock.patch("exp.exp_informer.lip_metrics", lambda *_: zeros),
    ):
        step()


def peer_step(model: str, sizes: dict[str, int], device: torch.device) -> Callable[[], object]:
    """Return a training step of neuralforecast's model of the same sizes, on random numbers."""
    build = getattr(import_module("neuralforecast.models"), PEERS[model])
    loss = import_module("neuralforecast.losses.pytorch").MSE()
    seq_len, pred_len = sizes["seq_len"], sizes["pred_len"]
    given = {"h": pred_len, "input_size": seq_len, "futr_exog_list": list("abcd"), "loss": loss}
    given |= {"hidden_size": sizes["d_model"], "conv_hidden_size": sizes["d_ff"], "n_head": 8}
    given |= {"encoder_layers": 2, "decoder_layers": 1, "factor": sizes["factor"], "dropout": 0.05}
    known = inspect.signature(build).parameters
    network = build(**{name: value for name, value in given.items() if name in known})
    network.label_len = sizes["label_len"]  # its constructor only takes a share of the input
    network.train().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    with device:
        marks, series = torch.rand(BATCH, seq_len + pred_len, 4), torch.randn(BATCH, seq_len, 1)
        truth = torch.randn(BATCH, pred_len, 1)
    windows = {"insample_y": series, "futr_exog": marks - 0.5, "hist_exog": None, "stat_exog": None}

    def step() -> None:
        optimizer.zero_grad()
        (network(windows) - truth).square().mean().backward()
        optimizer.step()

    return step


def compare(model: str, setting: str, args: argparse.Namespace) -> pd.DataFrame:
    """Time a model's contenders at one setting: a row for each."""
    names = ("seq_len", "label_len", "pred_len", "factor")
    sizes = dict(zip(names, map(int, setting.split("/")), strict=True))
    sizes |= {"d_model": args.d_model, "d_ff": 4 * args.d_model}
    common = f"--model {model} --device {args.device} --threads {args.threads}"
    common += "".join(f" --{name} {value}" for name, value in sizes.items())
    device, steps = torch.device(args.device), {}
    for name in args.contenders:
        if name != PEER:
            steps[name] = own_step(f"{common} {CONTENDERS[name]}")
        elif model in PEERS and util.find_spec(PEER):
            steps[name] = peer_step(model, sizes, device)
    if "nolip" in steps:
        steps["nolip"] = functools.partial(without_lipreg, steps["nolip"], device)
    rounds = [
        {name: seconds(step, device) for name, step in steps.items()}
        for _ in range(args.rounds + 1)
    ]
    table = summary(pd.DataFrame(rounds[1:]))  # the first one warms up
    table.insert(0, "setting", f"{model} {setting}")
    return table


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Time a step."""
    begun = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def summary(times: pd.DataFrame) -> pd.DataFrame:
    """Sum up seconds a step [rounds, contenders]: median and range; ratios' medians over rounds."""
    table = pd.DataFrame({"seconds": times.median(), "least": times.min(), "most": times.max()})
    for name in times.columns.intersection(["c0", "nolip", PEER]):
        table[f"times_{name}"] = times.div(times[name], axis=0).median()
    return table


def main(argv: list[str]) -> int:
    """Measure, and print where and what as CSV."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = Parser(prog="python -m exp.bench", description=__doc__, formatter_class=formatter)
    add, many = parser.add_argument, {"nargs": "+", "metavar": "X"}
    add("--settings", default=["48/48/24/3", "720/168/24/5"], help="lengths, factor", **many)
    add("--models", default=["informer"], choices=MODELS, help="models", **many)
    add("--contenders", default=[*CONTENDERS], choices=CONTENDERS, help="what is timed", **many)
    for name, value in {"rounds": 10, "threads": os.cpu_count(), "d_model": 512}.items():
        add(f"--{name}", type=int, default=value, metavar="N", help="how many")
    add("--device", default="cpu", metavar="cpu|cuda", help="where to compute")
    args = parser.parse_args(argv)
    keep_freed_memory()  # as in a run
    pairs = itertools.product(args.models, args.settings)
    table = pd.concat([compare(model, setting, args) for model, setting in pairs])
    notes = environment(torch.device(args.device)) | {"load": os.getloadavg()[0]}
    print("".join(f"# {name}: {value}\n" for name, value in notes.items()), end="")
    print(table.to_csv(index_label="contender", float_format="%.4g"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
