"""One experiment from flags to files, on a part of the embedded data and on benchmark data."""

import importlib
import importlib.util
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from exp.baselines import baseline_scores
from exp.exp_basic import batch_order
from exp.exp_informer import Exp_Informer, lip_metrics
from exp.record import read_arrays, read_history, read_runs
from tests.runs import ROOT, STEPS, build, numbers, only_run, run, tiny
from utils.files import read_json

TENSORBOARD = ["--tensorboard"] if importlib.util.find_spec("tensorboard") else []


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """Return the folder of a finished run of a real process, and what it printed."""
    words, results = ["--do_predict", "--save_forecasts"], tmp_path_factory.mktemp("complete")
    large = np.ones(100_000_000)  # 800 MB
    code, output, errors = run(*words, *TENSORBOARD, results=results)
    assert (code, errors) == (0, "")
    peak = read_json(only_run(results) / "metrics.json")["peak_memory_mb"]
    assert 50 < peak < large.nbytes / 1e6  # the process's own, not its parent's
    return only_run(results), output


def test_a_run_leaves_what_the_readme_promises(complete):
    folder, output = complete
    for text in (
        *("loss = MSE - 2 Lip (feature axis, max-normalised)", "LipReg time", "last value"),
        *("ridge", "MSE drop_last", "on scaled data, as the paper", "test in original units"),
    ):
        assert text in output
    assert {path.name for path in folder.iterdir()} - {"tensorboard"} == {
        "config.json", "forecasts.npz", "forecasts.png", "history.json", "metrics.json",
        "prediction.csv", "prediction.png", "trace.npz", "weights.pt",
        "window_errors.npz",
    }  # fmt: skip
    config, metrics = (read_json(folder / f"{name}.json") for name in ("config", "metrics"))
    assert config["identity"]["lip_coef"] == -2.0
    assert {"git_commit", "torch", "threads", "device"} <= config["environment"].keys()
    scaler = config["scaler"]
    assert scaler["columns"] == ["temp"] and len(scaler["mean"]) == len(scaler["std"]) == 1
    (row,) = read_runs(folder.parent).to_dict("records")
    assert row["setting_id"] == config["setting_id"] != config["id"]
    assert row["started"] == config["environment"]["started"]
    assert metrics["status"] == "finished"
    assert 0 < metrics["test_seconds"] < metrics["wall_seconds"]
    windows = metrics["all"]["windows"]
    assert metrics["truncated"]["windows"] == windows // 32 * 32 < windows
    errors = read_arrays(folder, "window_errors")["mse"]
    assert len(errors) == windows
    assert errors.mean() == pytest.approx(metrics["all"]["mse"], rel=1e-5)
    for scores in (metrics, metrics["baselines"]["ridge"]):
        assert np.mean(scores["by_step"]["mse"]) == pytest.approx(scores["all"]["mse"])
    history, trace = read_history(folder), read_arrays(folder, "trace")
    assert (len(history), len(trace["mse"])) == (3, 3 * STEPS)
    assert trace["epoch"] == pytest.approx(np.arange(1, 3 * STEPS + 1) / STEPS)
    second = trace["mse"][STEPS : 2 * STEPS].mean()
    assert float(history["train_mse"].iloc[1]) == pytest.approx(second, rel=1e-6)


@pytest.mark.skipif(not TENSORBOARD, reason="tensorboard is not installed")
def test_tensorboard_gets_the_curves(complete):
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(complete[0] / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("epoch/val_mse")] == [1, 2, 3]
    found = [(event.step, event.value) for event in events.Scalars("step/l_f")]
    assert found == list(enumerate(read_arrays(complete[0], "trace")["l_f"].tolist(), 1))


def test_forecasts_are_dated_and_in_original_units(complete):
    folder, data = complete[0], build().data
    windows = read_json(folder / "metrics.json")["all"]["windows"]
    forecasts = read_arrays(folder, "forecasts")
    assert forecasts["columns"].tolist() == ["temp"]
    assert forecasts["pred"].shape == forecasts["true"].shape == (windows, 4, 1)
    rows = data.test.start + 12 + np.arange(windows)[:, None] + np.arange(4)
    assert (forecasts["dates"] == data.dates.to_numpy()[rows]).all()
    past = data.scaler.inverse(data.test.values.numpy())[:, 0]
    assert data.scaler.mean[-1] == pytest.approx(past[: int(0.7 * len(past))].mean(), rel=1e-4)
    assert forecasts["true"][..., 0] == pytest.approx(past[rows], rel=1e-5)


def test_a_finished_run_is_skipped_until_force(complete, tmp_path, capsys):
    folder = shutil.copytree(complete[0], tmp_path / complete[0].name)
    stamp = (folder / "metrics.json").stat().st_mtime_ns
    assert tiny(tmp_path) == 0
    assert "done before, skipped" in capsys.readouterr().out
    assert (folder / "metrics.json").stat().st_mtime_ns == stamp
    assert tiny(tmp_path, "--force") == 0
    old = folder.with_name(f"{folder.name}.replaced-1")
    # the same identity, machine and threads: the same numbers
    assert numbers(old) == numbers(folder) == numbers(complete[0])


def test_repetitions_and_weights_that_are_dropped(tmp_path, capsys):
    for words in (["--itr", "2"], ["--weights", "drop", "--seed", "9"]):
        assert tiny(tmp_path, *words, "--train_epochs", "1") == 0
    assert "2 repetitions: MSE" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*/weights.pt"))) == 2
    assert sorted(read_runs(tmp_path)["seed"]) == [0, 1, 9]


FAILURES = {
    "vali": "the validation MSE of epoch 1 is inf",
    "train_step": "the loss stopped being finite at step 1 (MSE inf",
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_seed_that_fails_lets_the_others_run(what, tmp_path, capsys, monkeypatch):
    real = getattr(Exp_Informer, what)

    def fail(exp, *args):
        if exp.config.seed != 1:
            return real(exp, *args)
        return {"val_mse": math.inf} if what == "vali" else torch.full((4,), math.inf)

    monkeypatch.setattr(Exp_Informer, what, fail)
    for _ in range(2):  # the second time it has failed before
        assert tiny(tmp_path, "--itr", "3", "--train_epochs", "1") == 1
        output, errors = capsys.readouterr()
        assert "2 repetitions: MSE" in output and len(errors.splitlines()) == 1
        assert "_s1-" in errors and FAILURES[what] in errors
    status = read_runs(tmp_path).sort_values("seed")["status"]
    assert list(status) == ["finished", "failed", "finished"]
    assert len(list(tmp_path.glob("*/*.pt"))) == 2


def test_runs_that_differ_in_c_share_weights_batches_and_draws():
    drawn = []
    for lam in ("0", "2"):
        exp = build("--lam", lam)
        weights = [value.clone() for value in exp.model.state_dict().values()]
        batch = exp.data.train.batch(batch_order(len(exp.data.train), 64, 0, 0)[0])
        exp.model.train()
        exp.loss(batch)
        drawn.append([*weights, *batch, torch.get_rng_state()])
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))
    assert not torch.equal(batch_order(99, 9, 0, 0), batch_order(99, 9, 0, 1))


def test_evaluation_leaves_the_training_stream_alone():
    exp = build("--test_each_epoch")
    state = torch.get_rng_state()
    first = exp.vali()
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(5)
    assert exp.vali() == first
    (forecast, _), *_ = exp._forecasts(exp.data.val, "validation")
    assert not forecast.pred.requires_grad
    assert first["eval_lip_feature"] == pytest.approx(float(forecast.lip), rel=1e-6)
    assert first["eval_max"] == float(forecast.embedded.max())
    assert first["test_mse"] == pytest.approx(exp.test()[0]["all"]["mse"], rel=1e-6)
    assert "test_mse" not in build().vali()


def test_the_trace_holds_the_embedding_of_the_training_pass():
    exp, seen = build(), []
    exp.model.enc_embedding.register_forward_hook(lambda _m, _i, output: seen.append(output))
    exp.model.train()
    adam = torch.optim.Adam(exp.model.parameters())
    measures = exp.train_step(torch.arange(4), adam)
    ((h, lip),) = seen
    assert measures[1:].tolist() == lip_metrics(h, "max").tolist()
    assert float(measures[2]) == pytest.approx(lip.item(), rel=1e-5)


MATRIX = {
    "--features MS --embed learned --distil --mix --padding 1": ["temp"],
    "--model informerstack --attn full --output_attention": ["dewp", "humid", "temp"],
    "--model autoformer --test_each_epoch": ["dewp", "humid", "temp"],
}


@pytest.mark.parametrize("words", MATRIX)
def test_the_matrix_of_settings_trains_and_predicts(words, tmp_path):
    more = ("--train_epochs", "1", "--do_predict", "--save_forecasts", "--features", "M")
    assert tiny(tmp_path, *more, *words.split()) == 0
    folder = only_run(tmp_path)
    assert list(pd.read_csv(folder / "prediction.csv")) == ["date", *MATRIX[words]]
    forecasts = read_arrays(folder, "forecasts")
    assert forecasts["columns"].tolist() == MATRIX[words]
    rows = pd.read_csv(ROOT / "tests/part.csv", parse_dates=["date"]).set_index("date")
    truth = rows.loc[forecasts["dates"][0], MATRIX[words]]
    assert forecasts["true"][0] == pytest.approx(truth.to_numpy(), rel=1e-5)
    errors, metrics = forecasts["pred"] - forecasts["true"], read_json(folder / "metrics.json")
    expected = pytest.approx(np.square(errors).mean(), rel=1e-4)
    assert metrics["original_units"]["mse"] == expected
    assert (folder / "attention.npz").exists() == ("--output_attention" in words)
    if "--output_attention" in words:
        maps = read_arrays(folder, "attention")
        assert [*maps] == [f"layer_{i}" for i in range(6)] and maps["layer_0"].shape == (2, 12, 12)


ETT = "--root_path . --seq_len 48 --label_len 48 --pred_len 24"


@pytest.mark.parametrize(
    ("words", "expected"),
    [  # on all test windows; another implementation measured ridge as 0.067, 0.318, 0.182
        ("--data ETTh2 --features S", (0.229, 0.095, 0.068)),
        ("--data ETTh1 --features M", (1.222, 0.424, 0.315)),
        ("--data ETTh2 --features M", (0.271, 0.266, 0.194)),
    ],
)
def test_baselines_on_the_benchmark_files(benchmark, words, expected):
    exp = build(*words.split(), *ETT.split())
    scores = baseline_scores(exp.data, exp.config)
    windows = [scores["last"][part]["windows"] for part in ("all", "truncated")]
    assert windows == [2857, 2848]
    found = [scores[name]["all"]["mse"] for name in ("last", "day", "ridge")]
    assert found == pytest.approx(expected, abs=0.001)


def test_sizes_at_the_start(benchmark):
    """LipReg along time and features and L_f of fresh embeddings of ETTh2: mean of four seeds.

    The expected values were measured on the released code, whose batches and weights differ.
    """
    words = f"--data ETTh2 --features S --d_model 512 --n_heads 8 {ETT} --seed".split()
    for training, sizes in ((True, (0.0026, 0.042, 0.145)), (False, (0.0005, 0.045, 0.055))):
        found = []
        for exp in (build(*words, seed) for seed in "0123"):
            batch = exp.data.train.batch(torch.arange(0, 8000, 250))
            h, _ = exp.model.train(training).enc_embedding(batch.x, batch.x_mark)
            found.append(lip_metrics(h, "max"))
        assert torch.stack(found).mean(0).tolist() == pytest.approx(sizes, rel=0.35)
