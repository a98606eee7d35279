"""One contender of the benchmark in a process of its own: it does what its standard input asks.

Lines in: `step`, `batch`, `validate`. Lines out: seconds taken; `memory` answers the peak in MB.
"""

import argparse
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from data.data_loader import Batch
from exp.exp_informer import Exp_Informer
from exp.flags import parse
from exp.record import Record
from exp.training import Training
from utils.environment import peak_memory_mb
from utils.errors import UserError

BATCH = 32
WIDTHS = {"d_model": 512, "n_heads": 8, "e_layers": 2, "d_layers": 1}  # d_ff is 4 d_model

Action = Callable[[], object]


def own_actions(asked: argparse.Namespace) -> dict[str, Action]:
    """Return what this project's model can be asked to do: exactly what a run does."""
    seq_len, label_len, pred_len = asked.lengths
    words = ["--model", "informer", "--data", asked.data, "--features", "S", "--lam", "2"]
    words += ["--seq_len", str(seq_len), "--label_len", str(label_len), "--pred_len", str(pred_len)]
    words += ["--factor", str(asked.factor), "--attn", asked.attn, "--amp", asked.amp]
    words += ["--lip_axis", "feature", "--d_model", str(asked.d_model)]
    words += ["--d_ff", str(4 * asked.d_model)]
    exp = Exp_Informer(*parse(words))
    nowhere = Path("not-written")  # steps alone touch no file
    training = Training(exp, Record(nowhere, {}), nowhere)

    def batch() -> Batch:
        return exp.data.train.batch(torch.randint(len(exp.data.train), (BATCH,)))

    def step() -> None:
        exp.model.train()
        training.progress.step = 0  # any number of steps: the trace has room for a run's
        training.step(batch())

    return {"step": step, "batch": batch, "validate": exp.vali}


def peer_actions(asked: argparse.Namespace) -> dict[str, Action]:
    """Return neuralforecast's Informer with the same sizes and batch, on random numbers."""
    seq_len, label_len, pred_len = asked.lengths
    informer = import_module("neuralforecast.models").Informer
    losses = import_module("neuralforecast.losses.pytorch")
    model = informer(
        h=pred_len,
        input_size=seq_len,
        futr_exog_list=list("abcd"),
        hidden_size=asked.d_model,
        n_head=WIDTHS["n_heads"],
        conv_hidden_size=4 * asked.d_model,
        encoder_layers=WIDTHS["e_layers"],
        decoder_layers=WIDTHS["d_layers"],
        factor=asked.factor,
        dropout=0.05,
        loss=losses.MSE(),
    )
    model.label_len = label_len  # its constructor only takes a share of the input
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    series = torch.randn(BATCH, seq_len, 1)
    known = {"futr_exog": torch.rand(BATCH, seq_len + pred_len, 4) - 0.5}
    truth = torch.randn(BATCH, pred_len, 1)
    windows = {"insample_y": series, **known, "hist_exog": None, "stat_exog": None}

    def step() -> None:
        optimizer.zero_grad()
        (model(windows) - truth).square().mean().backward()
        optimizer.step()

    return {"step": step}


def main() -> None:
    """Say `ready`, then answer line by line until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=("own", "peer"))
    parser.add_argument("--data", default="demo")
    parser.add_argument("--amp", default="off")
    parser.add_argument("--attn", default="prob")
    parser.add_argument("--factor", type=int, default=5)
    parser.add_argument("--d_model", type=int, default=WIDTHS["d_model"])
    parser.add_argument("--lengths", type=int, nargs=3, required=True)
    parser.add_argument("--threads", type=int, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    try:
        actions = (own_actions if asked.contender == "own" else peer_actions)(asked)
    except UserError as error:
        sys.exit(f"error: {error}")
    answers, sys.stdout = sys.stdout, sys.stderr  # progress lines are no answers
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        if line.strip() != "memory":
            actions[line.strip()]()
        seconds, peak = time.perf_counter() - begun, peak_memory_mb(torch.device("cpu"))
        print(peak if line.strip() == "memory" else seconds, file=answers, flush=True)


if __name__ == "__main__":
    main()
