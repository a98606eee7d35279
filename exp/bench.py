"""Training steps timed beside neuralforecast's, one step of each in turn, as CSV.

    python -m exp.bench --seq_len 48 --label_len 48 --factor 3

Flags of main_informer.py are those of all contenders; the data is the demo's.
"""

import inspect
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module, util
from unittest import mock

import pandas as pd
import torch

from exp.config import Config, Parser, parse
from exp.exp_basic import pick_device
from exp.exp_informer import Exp_Informer
from models.layers import keep_freed_memory
from utils.environment import environment
from utils.output import run_command

PEER = "neuralforecast"
PEERS = {"informer": "Informer", "transformer": "VanillaTransformer", "autoformer": "Autoformer"}
CONTENDERS = {  # and their flags, where they are ours
    "fp32": "--lam 2",
    "c0": "--lam 0",  # LipReg is measured, not trained on
    "nolip": "--lam 0",  # LipReg is not computed at all
    "bf16": "--lam 2 --amp bf16",
    PEER: "",
}
COMMON = "--model informer --data demo --features S --lip_axis feature"


def own_step(flags: list[str], lip: bool = True) -> Callable[[], object]:
    """Return the training step that a run with these flags does, or one that computes no LipReg."""
    run = Exp_Informer(*parse(flags))
    optimizer = torch.optim.Adam(run.model.parameters(), lr=1e-4, fused=True)
    run.model.train()
    shape, windows = (run.config.batch_size,), len(run.data.train)

    def step() -> object:
        return run.train_step(torch.randint(windows, shape, device=run.device), optimizer)

    zeros = torch.zeros(3, device=run.device)
    no_loss = mock.patch("models.embed.LipReg", lambda *_, **__: zeros[0])
    no_record = mock.patch("exp.exp_informer.lip_metrics", lambda *_: zeros)
    return step if lip else no_loss(no_record(step))


def peer_step(config: Config, device: torch.device) -> Callable[[], object]:
    """Return a training step of neuralforecast's model of the same sizes, on random numbers."""
    build = getattr(import_module("neuralforecast.models"), PEERS[config.model])
    given = {
        **{"h": config.pred_len, "input_size": config.seq_len, "futr_exog_list": list("abcd")},
        **{"hidden_size": config.d_model, "conv_hidden_size": config.d_ff},
        **{"n_head": config.n_heads, "factor": config.factor, "dropout": config.dropout},
        **{"encoder_layers": config.e_layers, "decoder_layers": config.d_layers},
        "loss": import_module("neuralforecast.losses.pytorch").MSE(),
    }
    known = inspect.signature(build).parameters
    network = build(**{name: value for name, value in given.items() if name in known})
    network.label_len = config.label_len  # its constructor only takes a share of the input
    network.train().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    batch, length = config.batch_size, config.seq_len + config.pred_len
    with device:
        truth, marks = torch.randn(batch, config.pred_len, 1), torch.rand(batch, length, 4)
        windows = {"insample_y": torch.randn(batch, config.seq_len, 1), "futr_exog": marks - 0.5}
    windows |= {"hist_exog": None, "stat_exog": None}

    def step() -> None:
        optimizer.zero_grad()
        (network(windows) - truth).square().mean().backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Time a step on a device."""
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
    parser = Parser(prog="python -m exp.bench", description=__doc__, allow_abbrev=False)
    names = [name for name in CONTENDERS if name != PEER or util.find_spec(PEER)]
    text = "what is timed (default: all that are installed)"
    parser.add_argument("--contenders", nargs="+", default=names, choices=names, help=text)
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="steps of each (10)")
    args, given = parser.parse_known_args(argv)
    flags = [*COMMON.split(), *given]
    config, options = parse(flags)
    device = pick_device(options)
    keep_freed_memory()  # as in a run
    steps = {}
    for name in args.contenders:
        if name != PEER:
            steps[name] = own_step([*flags, *CONTENDERS[name].split()], name != "nolip")
        elif config.model in PEERS:
            steps[name] = peer_step(config, device)
    rounds = range(args.rounds + 1)
    times = pd.DataFrame([{n: seconds(s, device) for n, s in steps.items()} for _ in rounds])
    where = environment(device) | {"load": os.getloadavg()[0]}
    where |= {"command": " ".join(["python -m exp.bench", *argv])}
    for name in sorted(where.keys() - {"host", "folder"}):  # those are of no use to others
        print(f"# {name}: {where[name]}")
    table = summary(times.iloc[1:])  # the first one warms up
    print(table.to_csv(index_label="contender", float_format="%.4g"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
