"""What every experiment needs first: a device, seeds, the data and a model."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.data_loader import ForecastData, load_data
from exp.config import Config
from exp.flags import Options
from models import MODELS
from models.fast import has_bf16_kernels, keep_freed_memory
from utils.errors import UserError
from utils.timefeatures import parse_freq


class Exp_Basic:
    """One run's device, data and freshly seeded model.

    Args:
        config: the settings that define the run.
        options: where and how to run.
        data: its data, where they are not those that the settings name.

    Raises:
        UserError: the device, the file or the settings do not do.
    """

    def __init__(self, config: Config, options: Options, data: ForecastData | None = None) -> None:
        self.config, self.options = config, options
        self.device = pick_device(options)
        if self.device.type == "cpu":
            keep_freed_memory()
            if config.amp == "bf16" and not has_bf16_kernels():
                raise UserError("--amp bf16: this processor has no bf16 kernels; use --amp off")
        if options.threads:
            torch.set_num_threads(options.threads)
        if options.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS demands it
            torch.use_deterministic_algorithms(True)
        self.data = (data or load(config, options)).to(self.device)
        torch.manual_seed(config.seed)
        self.model = _build_model(config, self.data).to(self.device)

    @contextlib.contextmanager
    def own_draws(self) -> Iterator[None]:
        """Seed an evaluation pass by itself and leave the training stream as it was."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.config.seed)
            yield


def batch_order(windows: int, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Return an epoch's shuffled windows, the incomplete last batch dropped: [steps, batch_size].

    A function of seed and epoch alone: it needs no state to be resumed, and runs that differ in
    nothing but the regularizer see the same batches.
    """
    words = np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint32)
    generator = torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))
    steps = windows // batch_size
    return torch.randperm(windows, generator=generator)[: steps * batch_size].view(steps, -1)


def pick_device(options: Options) -> torch.device:
    """Return the device asked for; only an explicit request for an absent one fails.

    Raises:
        UserError: the name is not a device, or that device is not there.
    """
    if options.device != "auto":
        name = options.device
        asked = f"--device {name}"
    elif options.use_gpu is False:
        return torch.device("cpu")
    elif options.gpu is not None or options.use_gpu:
        name = f"cuda:{options.gpu or 0}"
        asked = "--use_gpu True" if options.gpu is None else f"--gpu {options.gpu}"
    else:
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
        asked = name
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"{asked}: not a device; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda") or name.startswith("cpu:"):
        raise UserError(f"{asked}: not supported; use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"{asked}: this machine has {count} CUDA devices; use --device cpu")
    return device


def load(config: Config, options: Options) -> ForecastData:
    """Read the data set that the settings name.

    Raises:
        UserError: the file or the settings do not do.
    """
    data = load_data(
        config.data,
        root_path=options.root_path,
        data_path=options.data_path,
        features=config.features,
        target=config.target,
        cols=list(config.cols) if config.cols else None,
        freq=config.freq,
        embed=config.embed,
        seq_len=config.seq_len,
        label_len=config.label_len,
        pred_len=config.pred_len,
        scaler_from=options.scaler_from,
    )
    if len(data.train) < config.batch_size:
        raise UserError(
            f"--batch_size {config.batch_size}: {data.path.name} has {len(data.train)} training "
            "windows; lower it or shorten the lengths"
        )
    if config.data == "custom":
        _check_widths(data, options)
    return data


def _check_widths(data: ForecastData, options: Options) -> None:
    """Refuse explicit column counts that the custom file does not have."""
    for flag, width in (
        ("enc_in", data.x_width),
        ("dec_in", data.x_width),
        ("c_out", data.out_width),
    ):
        asked = getattr(options, flag)
        if asked is not None and asked != width:
            raise UserError(f"--{flag} {asked}: {data.path.name} gives {width}; leave the flag out")


def _build_model(config: Config, data: ForecastData) -> Any:
    return MODELS[config.model](
        enc_in=data.x_width,
        dec_in=data.x_width,
        c_out=data.out_width,
        seq_len=config.seq_len,
        label_len=config.label_len,
        out_len=config.pred_len,
        factor=config.factor,
        d_model=config.d_model,
        n_heads=config.n_heads,
        e_layers=getattr(config, MODELS[config.model].depth),
        d_layers=config.d_layers,
        d_ff=config.d_ff,
        dropout=config.dropout,
        attn=config.attn,
        embed=config.embed,
        freq=parse_freq(config.freq),
        activation=config.activation,
        output_attention=config.output_attention,
        distil=config.distil,
        moving_avg=config.moving_avg,
        mix=config.mix,
        lip_axis=config.lip_axis,
        lip_norm=config.lip_norm,
        amp=config.amp,
    )
