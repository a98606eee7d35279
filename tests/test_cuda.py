"""What must hold on a CUDA device: python -m pytest -n 0 -m cuda."""

import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from exp.exp_basic import set_precision
from tests.runs import STEPS, build, numbers, only_run, run
from tests.test_golden import NAMES, Golden, agree
from utils.environment import peak_memory_mb

absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
pytestmark = [pytest.mark.cuda, absent]


def steps(*words: str) -> Tensor:
    """Do three training steps of the tiny experiment; return their measures [3, 4]."""
    exp = build("--dropout", "0", *words)
    exp.model.train()
    optimizer = torch.optim.Adam(exp.model.parameters(), fused=True)
    batches = torch.arange(24, device=exp.device).view(3, 8)
    return torch.stack([exp.train_step(index, optimizer) for index in batches]).cpu()


@pytest.mark.parametrize("name", NAMES)
def test_golden_arrays_hold(name: str):
    set_precision("off", torch.device("cuda", 0))
    case = Golden(Path(__file__).parent / "golden" / f"{name}.npz")
    case.inputs, case.target = [x.cuda() for x in case.inputs], case.target.cuda()
    model = case.model().cuda()
    torch.manual_seed(case.seed)
    agree(model.eval()(*case.inputs).pred.cpu(), case.arrays["eval/pred"])
    torch.manual_seed(case.seed)
    case.losses(model.train())[-1].backward()
    prefix = "train_time/" if "lam" in case.config else "train/"
    for key, gradient in case.under(f"{prefix}grad/").items():
        ours = model.get_parameter(key).grad
        assert ours is not None
        assert abs(ours.cpu().numpy() - gradient).max() <= 1e-4 * abs(gradient).max() + 1e-6, key


@pytest.mark.parametrize(("amp", "rtol"), [("off", 1e-3), ("tf32", 0.01), ("bf16", 0.05)])
def test_steps_are_those_of_the_processor(amp: str, rtol: float):
    theirs = steps("--device", "cpu")
    assert torch.allclose(steps("--device", "cuda", "--amp", amp), theirs, rtol=rtol)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two CUDA devices")
def test_the_second_device_does_what_the_first_does():
    first, second = steps("--device", "cuda:0"), steps("--device", "cuda:1")
    assert torch.cuda.current_device() == 1
    assert torch.allclose(first, second, rtol=1e-5)
    assert peak_memory_mb(torch.device("cuda", 1)) > 0


def test_deterministic_runs_killed_or_not_have_equal_bits(tmp_path: Path):
    words = ("--device", "cuda", "--deterministic")
    for name in ("one", "two"):
        code, _, errors = run(*words, results=tmp_path / name)
        assert code == 0, errors
    code, *_ = run(
        *words, results=tmp_path / "killed", script="tests/fault.py", FAULT=f"step:{STEPS + 3}"
    )
    assert code == -signal.SIGKILL
    code, output, errors = run(*words, results=tmp_path / "killed")
    assert code == 0, errors
    assert "continuing" in output
    first, *others = (only_run(tmp_path / name) for name in ("one", "two", "killed"))
    for other in others:
        assert numbers(first) == numbers(other)
