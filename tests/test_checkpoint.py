"""The schedule of rates, early stopping, checkpoints and weights, and what is said meanwhile."""

import itertools
import math
import re
from types import SimpleNamespace

import pytest
import torch

from exp.checkpoint import (
    TRACE,
    TrainState,
    load_state,
    serialise,
    state_files,
)
from exp.exp_informer import Exp_Informer, learning_rate
from exp.record import Record, RunFailed
from tests.runs import build, tiny
from utils.files import sha256_of


def train_state(folder, steps=1, epochs=9) -> TrainState:
    model = torch.nn.Linear(1, 1)
    adam = torch.optim.Adam(model.parameters())
    return TrainState(folder, model, adam, steps=steps, epochs=epochs)


def test_learning_rates():
    assert [learning_rate(1e-4, "type1", e) for e in range(1, 5)] == [1e-4, 1e-4, 5e-5, 2.5e-5]
    rates = {1e-4: 2, 5e-5: 2, 1e-5: 2, 5e-6: 2, 1e-6: 2, 5e-7: 5, 1e-7: 5, 5e-8: 2}  # : epochs
    expected = [rate for rate, epochs in rates.items() for _ in range(epochs)]
    assert [learning_rate(1e-4, "type2", e) for e in range(1, 23)] == expected


def test_early_stopping(tmp_path, monkeypatch):
    errors = iter((0.5, 0.4, 0.4, 0.6, 0.45, 0.1))
    monkeypatch.setattr(Exp_Informer, "vali", lambda _: {"val_mse": next(errors)})
    monkeypatch.setattr("exp.checkpoint.SAVE_SECONDS", 0)
    exp = build("--train_epochs", "9", "--patience", "2", "--batch_size", "615")
    state = exp.train(Record(tmp_path, {}))
    # equal is as good as better; two worse ones in a row end the run
    now = state.progress
    assert (now.best_epoch, now.epoch, now.best_val, now.bad_epochs) == (3, 5, 0.4, 2)
    assert [path.name[6:15] for path in state_files(tmp_path)] == ["000000005", "000000004"]
    assert all(torch.equal(state.best[k], v) for k, v in exp.model.state_dict().items())


def test_a_checkpoint_is_written_once_a_minute(tmp_path, monkeypatch):
    looks = iter((100, 159, 160, 161, 219, 220))
    monkeypatch.setattr("exp.checkpoint.time", SimpleNamespace(monotonic=looks.__next__))
    state, written = train_state(tmp_path, steps=9), []
    for state.progress.step in range(1, 6):
        state.save_if_due()
        written.append(len(state_files(tmp_path)))
    assert written == [0, 1, 1, 1, 2] and state.progress.seconds == 120


def test_seconds_are_of_all_sittings_and_old_checkpoints_are_read(tmp_path, monkeypatch):
    clock = SimpleNamespace(monotonic=itertools.count(100).__next__)
    monkeypatch.setattr("exp.checkpoint.time", clock)  # a look takes a second: two an epoch
    state = train_state(tmp_path)
    for _ in range(3):
        state.add_step(torch.zeros(4))
        state.end_epoch(1e-4, {"val_mse": 0.5})
        state.save()
    assert [row["seconds"] for row in state.progress.history] == [1, 2, 2]
    state.progress.step, state.progress.bad_epochs = 1, 2
    state.save()
    body = load_state(tmp_path)
    assert body is not None
    body["progress"]["waited"] = body["progress"].pop("bad_epochs")  # as it was called
    content = serialise(body)
    (tmp_path / f"state-999999999-{sha256_of(content)[:16]}.pt").write_bytes(content)
    assert train_state(tmp_path).progress == state.progress


def test_the_first_bad_step_and_the_time_left_are_named(tmp_path, capsys):
    exp, state = build(), train_state(tmp_path, 9, 6)
    now = state.progress
    now.epoch, now.seconds = 2, 600.0
    row = {f"train_{name}": i for i, name in enumerate(TRACE)}
    exp._print_epoch({**row, "val_mse": 0.5, "lr": 1e-4, "seconds": 300.0}, state)
    means = "MSE 0, LipReg time 1, feature 2, L_f 3"
    line = f"epoch 2/6: train {means}, val MSE 0.5000 *, lr 0.0001, 5.0 min, "
    assert capsys.readouterr().out == line + "run: at most 20.0 min left\n"
    for mse in (0.6, 0.5, math.inf, 0.5, math.nan):
        state.add_step(torch.tensor([mse, 2, 3, 4]))
        if mse == 0.5 and now.step == 2:
            assert exp._check_finite(state) == "MSE 0.5, LipReg time 2, feature 3, L_f 4"
    with pytest.raises(RunFailed, match=r"at step 21 \(MSE inf, LipReg time 2, .*\), c = -2; try"):
        exp._check_finite(state)


def test_progress_shows_every_step_and_now_and_then_the_losses(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("utils.progress.LINE_SECONDS", 0)  # a line after every step
    assert tiny(tmp_path, "--batch_size", "16", "--train_epochs", "1") == 0
    output = capsys.readouterr().out
    lines = re.findall(r"^epoch 1/1, step (\d+)/38: \d+ s left (.*)$", output, re.MULTILINE)
    assert [int(step) for step, _ in lines] == [*range(1, 39)]
    assert [int(step) for step, note in lines if note.startswith("MSE ")] == [25]
