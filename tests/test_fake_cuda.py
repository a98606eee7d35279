"""A training step and an evaluation on CUDA, as far as a processor can tell.

FakeTensorMode follows shapes, types and devices, and computes no number. `Watch` fails in the line
that asks for what would break or slow a step. torch is told of the device before it starts.
"""

import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from exp.config import parse
from exp.exp_informer import Exp_Informer
from models import MODELS
from models.attn import ProbAttention
from tests.runs import ROOT
from utils.metrics import ErrorSums

CUDA = torch.device("cuda", 0)
SIZES = "--data demo --features S --seq_len 48 --factor 3 --d_model 256 --lam 2 --device cpu"
LARGE = 2**14  # numbers in each factor of a product: more than a few columns have
TO_HOST = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
CHILD = """import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
import pytest, torch
library.use_fake_device()
words = ["-n0", "-p", "no:cacheprovider", "-o", "python_functions=on_device_*"]
sys.exit(pytest.main([*words, "tests/test_fake_cuda.py"]))"""


def test_steps_on_a_fake_device(tmp_path: Path):
    folder, library = Path(torch.__file__).parent, tmp_path / "fake_cuda.so"
    if not shutil.which("g++"):
        pytest.skip("no g++: a small library that stands in for a device has to be compiled")
    words = f"g++ -std=c++20 -w -fPIC -shared -o {library} tests/fake_cuda.cpp"
    words += f" -I{folder}/include -L{folder}/lib -Wl,-rpath,{folder}/lib -lc10 -ltorch_cpu"
    subprocess.run(words.split(), cwd=ROOT, check=True)
    command = [sys.executable, "-c", CHILD, library]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout + child.stderr


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class Watch(TorchDispatchMode):
    """Let pass what stays on the device, and a copy that starts in pinned memory."""

    def __init__(self, amp: str) -> None:
        super().__init__()
        self.amp, self.count, self.pinned = amp, 0, set[int]()  # storages

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, kind = dict(kwargs or {}), func.overloadpacket
        pin = kwargs.pop("pin_memory", False)  # a fake tensor has no memory to pin
        given = tensors((args, kwargs))
        waits = TO_HOST & {*func.tags}
        if kind in (torch.ops.aten.index, torch.ops.aten.index_put_):
            waits = [x for x in given if x.dtype == torch.bool]
        assert not waits, f"{func}: the host waits for the device"
        out = func(*args, **kwargs)
        host = {x.untyped_storage()._cdata for x in tensors((given, out)) if x.is_cpu}
        if pin:
            self.pinned |= host
        elif kwargs.get("non_blocking") or kind in (torch.ops.aten.detach, torch.ops.prim.device):
            host -= self.pinned
        assert pin or not host, f"{func}: an operand is on the processor"
        if self.amp == "bf16" and kind in flop_registry:
            small = min(x.numel() for x in given if x.dim() > 1) <= LARGE
            assert small or given[-1].dtype == torch.bfloat16, f"{func}: a large product in fp32"
        sums = kind is torch.ops.aten.cumsum and out.dtype == torch.bfloat16
        assert not sums, f"{func}: a running sum in bf16"
        self.count += 1
        return out


@contextmanager
def on_fake_device(words: str) -> Iterator[Exp_Informer]:
    """Build an experiment on the processor, and move it to a device that is not there."""
    exp = Exp_Informer(*parse(f"{SIZES} {words}".split()))
    states = mock.patch.multiple(torch.cuda, get_rng_state=mock.Mock(), set_rng_state=mock.Mock())
    with states, FakeTensorMode(allow_non_fake_inputs=True):
        exp.device, exp.data, exp.model = CUDA, exp.data.to(CUDA), exp.model.to(CUDA)
        yield exp


def train_step(exp: Exp_Informer) -> Watch:
    """Do a training step, and check that it leaves everything on the device."""
    optimizer = torch.optim.Adam(exp.model.parameters(), fused=True)
    exp.model.train()
    with Watch(exp.config.amp) as watch:
        left = [exp.train_step(torch.arange(32, device=CUDA), optimizer)]
    without = [n for n, p in exp.model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, f"no gradient reaches {without}"
    left += tensors([exp.model.state_dict(), optimizer.state_dict()])
    assert {x.device for x in left} == {CUDA}
    return watch


@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("axis", ["time", "feature"])
@pytest.mark.parametrize("model", MODELS)
def on_device_a_step_and_an_evaluation_stay(model: str, axis: str, amp: str):
    with on_fake_device(f"--model {model} --lip_axis {axis} --amp {amp}") as exp:
        sparse = [m for m in exp.model.modules() if isinstance(m, ProbAttention)]
        assert all(m._count(24) < 24 for m in sparse)  # fewer keys than there are
        watch = train_step(exp)
        assert watch.count > 100 and bool(watch.pinned) == bool(sparse)
        batches = exp._forecasts(replace(exp.data.val, count=64), "evaluation")
        forecasts = ((forecast.pred, true) for forecast, true in batches)
        (sums := ErrorSums()).add(*next(forecasts))  # to numbers of the processor
        with Watch(amp):
            sums.add(*next(forecasts))
        assert next(forecasts, None) is None


FAULTS = [
    ("the host waits", lambda h: h * h.mean().item()),
    ("the host waits", lambda h: h + h[h > 0].mean()),
    ("on the processor", lambda h: h + torch.ones(h.shape[-1])),
    ("on the processor", lambda h: h + torch.rand(h.shape[-1]).to(h.device)),
    ("a large product in fp32", lambda h: h @ h.new_ones(256, 256)),
    ("no gradient reaches", lambda h: h.detach()),
]


@pytest.mark.parametrize(("message", "fault"), FAULTS)
def on_device_a_fault_is_found_in_its_line(message: str, fault: Any):
    with on_fake_device("--model informer --amp bf16") as exp:
        exp.model.enc_embedding.dropout.register_forward_hook(lambda *passed: fault(passed[-1]))
        with pytest.raises(AssertionError, match=message) as found:
            train_step(exp)
    lines = {(x.filename, x.lineno) for x in traceback.extract_tb(found.value.__traceback__)}
    assert "gradient" in message or (__file__, fault.__code__.co_firstlineno) in lines
