"""What must hold on a CUDA device: python -m pytest -n 0 -m cuda."""

import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from exp.checkpoint import TrainState
from exp.exp_informer import Exp_Informer
from tests.runs import STEPS, build, numbers, only_run, run
from tests.test_golden import NAMES, Golden, agree

absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
pytestmark = [pytest.mark.cuda, absent]


def prepared(folder: Path, *words: str) -> tuple[Exp_Informer, TrainState]:
    """Build the tiny experiment and its optimizer."""
    exp = build(*words)
    exp.model.train()
    optimizer = torch.optim.Adam(exp.model.parameters(), fused=True)
    return exp, TrainState(folder, exp.model, optimizer, steps=100, epochs=1)


def steps(exp: Exp_Informer, state: TrainState, count: int) -> Tensor:
    """Do some training steps, each on windows of its own, and return their measures [count, 4]."""
    batches = torch.arange(count * 8, device=exp.device).view(count, 8)
    return torch.stack([exp.train_step(index, state.optimizer) for index in batches])


@pytest.mark.parametrize("name", NAMES)
def test_golden_arrays_hold(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
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


def test_three_steps_are_those_of_the_processor(tmp_path: Path):
    words = ("--dropout", "0", "--device")
    ours, theirs = (steps(*prepared(tmp_path, *words, name), 3).cpu() for name in ("cuda", "cpu"))
    assert torch.allclose(ours, theirs, rtol=1e-3)


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


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # torch calls it a prototype
def test_steps_wait_for_nothing(tmp_path: Path):
    exp, state = prepared(tmp_path, "--device", "cuda")
    steps(exp, state, 2)
    batches = torch.arange(30 * 8, device="cuda").view(30, 8)
    try:
        torch.cuda.set_sync_debug_mode("error")
        for index in batches:
            state.add_step(exp.train_step(index, state.optimizer))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_too_little_memory_is_said_in_one_line(tmp_path: Path):
    sizes = "--attn full --seq_len 500 --d_model 512 --n_heads 512 --batch_size 127"
    code, _, errors = run("--device", "cuda", *sizes.split(), results=tmp_path)
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert "--batch_size" in errors
