"""The schedule of rates, early stopping, and which checkpoints stay."""

import time

import torch

from exp.exp_informer import learning_rate
from exp.state import TrainState, state_files


def test_learning_rates_and_early_stopping(tmp_path):
    assert [learning_rate(1e-4, "type1", e) for e in range(1, 5)] == [1e-4, 1e-4, 5e-5, 2.5e-5]
    rates = {1e-4: 2, 5e-5: 2, 1e-5: 2, 5e-6: 2, 1e-6: 2, 5e-7: 5, 1e-7: 5, 5e-8: 2}  # : epochs
    expected = [rate for rate, epochs in rates.items() for _ in range(epochs)]
    assert [learning_rate(1e-4, "type2", e) for e in range(1, 23)] == expected
    begun = time.monotonic()
    state = TrainState(torch.nn.Linear(1, 1), 1, 9, tmp_path)
    for val_mse in (0.5, 0.4, 0.4, 0.6, 0.45):
        assert not state.trained
        state.add_step(torch.zeros(4))
        state.end_epoch({"val_mse": val_mse}, patience=2)
    assert 0 < state.seconds <= time.monotonic() - begun
    assert sum(row["seconds"] for row in state.history) <= state.seconds + 0.01
    # equal is as good as better; two worse ones in a row end the run
    assert state.trained
    assert (state.best_epoch, state.epoch, state.best_val) == (3, 5, 0.4)
    assert [path.name[6:15] for path in state_files(tmp_path)] == ["000000005", "000000004"]
