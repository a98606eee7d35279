"""What must hold on a CUDA device; `scripts/cuda.sh check` runs it there."""

import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

from exp.checkpoint import TrainState
from exp.exp_informer import Exp_Informer
from tests.runs import STEPS, build, numbers, only_run, run
from tests.test_golden import NAMES, Golden, agree
from utils.files import read_json

absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
pytestmark = [pytest.mark.cuda, absent]


def prepared(folder: Path, *words: str) -> tuple[Exp_Informer, TrainState]:
    """Build the tiny experiment and its optimizer."""
    exp = build(*words)
    exp.model.train()
    state = TrainState(exp.model, 100, 1, folder)
    state.set_rate(1e-3, exp.options.cuda_graph)
    return exp, state


def steps(exp: Exp_Informer, state: TrainState, count: int) -> Tensor:
    """Do some training steps, each on windows of its own, and return their measures [count, 4]."""
    step = exp.stepper(state.optimizer)
    batches = torch.arange(count * 8, device=exp.device).view(count, 8)
    return torch.stack([step(index).clone() for index in batches])


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
@pytest.mark.parametrize("how", [[], ["--cuda_graph"]])
def test_steps_wait_for_nothing(tmp_path: Path, how: list[str]):
    exp, state = prepared(tmp_path, "--device", "cuda", *how)
    step, batches = exp.stepper(state.optimizer), torch.arange(30 * 8, device="cuda").view(30, 8)
    for index in batches[:5]:  # a graph is captured by then
        step(index)
    try:
        torch.cuda.set_sync_debug_mode("error")
        for index in batches[5:]:
            state.add_step(step(index))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("model", ["informer", "transformer", "autoformer"])
def test_captured_steps_are_the_ordinary_ones(tmp_path: Path, model: str):
    words = ("--device", "cuda", "--dropout", "0", "--model", model)
    ordinary = steps(*prepared(tmp_path, *words), 12)
    captured = steps(*prepared(tmp_path, *words, "--cuda_graph"), 12)
    assert torch.allclose(ordinary, captured, rtol=1e-4, atol=1e-7)
    assert len(captured.unique(dim=0)) == 12  # each on its own windows


def test_a_captured_training_is_the_ordinary_one(tmp_path: Path):
    words, found = ("--device", "cuda", "--dropout", "0"), []
    for how in ([], ["--cuda_graph"]):
        results = tmp_path / f"captured{len(how)}"
        code, _, errors = run(*words, *how, results=results)
        assert code == 0, errors
        found.append(read_json(only_run(results) / "metrics.json")["val_mse"])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_too_little_memory_is_said_in_one_line(tmp_path: Path):
    sizes = "--attn full --seq_len 500 --d_model 512 --n_heads 512 --batch_size 127"
    code, _, errors = run("--device", "cuda", *sizes.split(), results=tmp_path)
    assert code == 1
    assert len(errors.splitlines()) == 1
    assert "--batch_size" in errors
