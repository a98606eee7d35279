"""What every experiment needs first: a device, seeds, the data and a model."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.data_loader import ForecastData, load_data
from exp.config import Config, Options
from models import MODELS
from models.layers import has_bf16_kernels
from utils.files import UserError
from utils.interrupt import Stop
from utils.timefeatures import parse_freq


class Exp_Basic:
    """One run's device, data and freshly seeded model.

    `data` replaces what the settings would load. A UserError if the device, the
    file or the settings cannot be used.
    """

    def __init__(
        self,
        config: Config,
        options: Options,
        stop: Stop | None = None,
        data: ForecastData | None = None,
    ) -> None:
        self.config, self.options, self.stop = config, options, stop or Stop()
        self.device = pick_device(options)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # events and memory are the current device's
        set_precision(config.amp, self.device)
        if options.threads:
            torch.set_num_threads(options.threads)
        if options.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS demands it
            torch.use_deterministic_algorithms(True)
        self.data = (data or load(config, options)).to(self.device)
        torch.manual_seed(config.seed)
        self.model = _build_model(config, self.data).to(self.device)

    @contextlib.contextmanager
    def fixed_eval_rng(self) -> Iterator[None]:
        """Seed an evaluation pass by itself and leave the training stream as it was."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.config.seed)
            yield


def batch_order(windows: int, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Return an epoch's shuffled windows, the incomplete last batch dropped: [steps, batch_size].

    A function of seed and epoch alone: runs need no state for it, and share it whatever c is.
    """
    words = np.random.SeedSequence([seed, epoch]).generate_state(2, np.uint32)
    generator = torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))
    steps = windows // batch_size
    return torch.randperm(windows, generator=generator)[: steps * batch_size].view(steps, -1)


def pick_device(options: Options) -> torch.device:
    """Return the device asked for; a UserError if it is explicitly asked for and not there."""
    name, gpu, count = options.device, options.gpu, torch.cuda.device_count()
    if name == "auto":
        wanted = options.use_gpu if options.use_gpu is not None else gpu is not None or count
        name = f"cuda:{gpu or 0}" if wanted else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"--device {name}: not supported; use auto, cpu, cuda or cuda:N")
    device = torch.device("cuda:0" if name == "cuda" else name)
    if device.type == "cuda" and device.index >= count:
        raise UserError(f"{name}: this machine has {count} CUDA devices; use --device cpu")
    return device


def lack(amp: str, device: torch.device) -> str:
    """Say what a device has not that a precision takes; "" where it has all."""
    if device.type == "cuda":
        new = amp == "off" or torch.cuda.get_device_capability(device) >= (8, 0)
        return "" if new else "this GPU has neither bf16 nor TF32"
    if amp == "tf32":
        return "a processor has no TF32"
    slow = amp == "bf16" and not has_bf16_kernels()
    return "this processor has no bf16 kernels" if slow else ""


def set_precision(amp: str, device: torch.device) -> None:
    """Have CUDA compute fp32 products in fp32, or with tf32 on factors rounded to 10 bits.

    A UserError if the device lacks the precision.
    """
    if reason := lack(amp, device):
        raise UserError(f"--amp {amp}: {reason}; use --amp off")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = amp == "tf32"


def load(config: Config, options: Options) -> ForecastData:
    """Read the data set that the settings name; a UserError if file or settings cannot be used."""
    data = load_data(config, options.root_path, options.data_path)
    if (windows := len(data.train)) < config.batch_size:
        has = f"{data.path.name} has {windows} training windows"
        raise UserError(f"--batch_size {config.batch_size}: {has}; lower it")
    return data


def _build_model(config: Config, data: ForecastData) -> Any:
    """Make the model of a run; its row of MODELS leaves out what it has no use for."""
    row = MODELS[config.model]
    return row(
        enc_in=data.x_width,
        dec_in=data.x_width,
        c_out=data.out_width,
        seq_len=config.seq_len,
        label_len=config.label_len,
        out_len=config.pred_len,
        factor=config.factor,
        d_model=config.d_model,
        n_heads=config.n_heads,
        e_layers=getattr(config, row.depth),
        d_layers=config.d_layers,
        d_ff=config.d_ff,
        dropout=config.dropout,
        attn=config.attn,
        embed=config.embed,
        freq=parse_freq(config.freq),
        activation=config.activation,
        output_attention=config.output_attention,
        distil=config.distil,
        mix=config.mix,
        moving_avg=config.moving_avg,
        lip_axis=config.lip_axis,
        lip_norm=config.lip_norm,
        amp=config.amp,
    )
