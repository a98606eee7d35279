"""What every experiment needs first: a device, seeds, the data and a model."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.data_loader import DataSettings, ForecastData, load_data
from exp.config import Config
from exp.flags import Options
from models import MODELS
from models.fast import has_bf16_kernels, keep_freed_memory
from utils.errors import UserError
from utils.timefeatures import parse_freq


class Exp_Basic:
    """One run's device, data and freshly seeded model.

    `data` is the run's, where it is not what the settings name.

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
    """Return the device asked for; a UserError if it is explicitly asked for and not there."""
    if options.device != "auto":
        name, asked = options.device, f"--device {options.device}"
    elif options.use_gpu is False:
        return torch.device("cpu")
    elif options.gpu is not None or options.use_gpu:
        name = f"cuda:{options.gpu or 0}"
        asked = "--use_gpu True" if options.gpu is None else f"--gpu {options.gpu}"
    else:
        name = asked = "cuda:0" if torch.cuda.is_available() else "cpu"
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
    """Read the data set that the settings name; a UserError if file or settings do not do."""
    place = (config.data, options.root_path, options.data_path)
    data = load_data(*place, DataSettings.of(config), options.scaler_from)
    if len(data.train) < config.batch_size:
        raise UserError(
            f"--batch_size {config.batch_size}: {data.path.name} has {len(data.train)} training "
            "windows; lower it or shorten the lengths"
        )
    widths = {"enc_in": data.x_width, "dec_in": data.x_width, "c_out": data.out_width}
    for flag, width in widths.items() if config.data == "custom" else ():
        if (asked := getattr(options, flag)) not in (None, width):
            raise UserError(f"--{flag} {asked}: {data.path.name} gives {width}; leave the flag out")
    return data


def _build_model(config: Config, data: ForecastData) -> Any:
    same = (
        *("seq_len", "label_len", "factor", "d_model", "n_heads", "d_layers", "d_ff", "dropout"),
        *("attn", "embed", "activation", "output_attention", "distil", "moving_avg", "mix"),
        *("lip_axis", "lip_norm", "amp"),
    )
    return MODELS[config.model](
        enc_in=data.x_width,
        dec_in=data.x_width,
        c_out=data.out_width,
        out_len=config.pred_len,
        e_layers=getattr(config, MODELS[config.model].depth),
        freq=parse_freq(config.freq),
        **{name: getattr(config, name) for name in same},
    )
