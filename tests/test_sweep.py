"""Sweeps: grids, shards, plans, and real sweeps that are stopped, killed and started again."""

import os
import random
import re
import signal
import time

import pandas as pd
import pytest
import torch

from exp import cost, workers
from exp.config import parse
from exp.exp_informer import Exp_Informer
from exp.grid import expand, shard_of
from exp.sweep import Plan, Progress, main
from exp.workers import Local
from models import MODELS
from tests.runs import ROOT
from tests.sweeps import SETTING, ended, finish, statuses, under_way, wait_for
from utils.files import UserError


def test_lambda_zero_is_one_run_and_duplicates_are_removed():
    axes = [(*SETTING, "--lip_axis", axis) for axis in ("feature", "time", "feature")]
    configs = [run.config for run in expand(axes, [0, 2, -2], ["minus", "plus"], [0, 1])]
    assert [(c.lip_axis, c.seed, c.lip_coef) for c in configs] == [
        *(("feature", seed, c) for seed in (0, 1) for c in (0.0, -2.0, 2.0)),
        *(("time", seed, c) for seed in (0, 1) for c in (-2.0, 2.0)),
    ]


def test_a_runs_flags_give_the_run_itself():
    for run in expand([SETTING], [0, 0.3], ["minus", "plus"], [7]):
        config, options = parse(list(run.job.flags))
        assert config == run.config
        assert options.itr == 1 and options.wait


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17])
def test_shards_are_whole_pairs_disjoint_complete_even_and_stable(count):
    axes = [(*SETTING, *more) for more in ((), ("--lip_axis", "time"), ("--dropout", "0.1"))]
    runs = expand(axes, [0, 2], ["minus", "plus"], list(range(8)))
    shuffled = random.Random(0).sample(runs, len(runs))
    shards = [shard_of(shuffled, f"{i}/{count}") for i in range(1, count + 1)]
    names = [run.name for shard in shards for run in shard]
    assert sorted(names) == sorted(run.name for run in runs)
    # 16 groups: a setting's runs with one seed, c = 0, -2 and 2, on both axes where it has both
    groups = [{(run.config.dropout, run.config.seed) for run in shard} for shard in shards]
    assert sum(map(len, groups)) == 16
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert shards == [shard_of(runs, f"{i}/{count}") for i in range(1, count + 1)]


OWN = f"--data custom --root_path {ROOT}/data/demo --data_path demo.csv --target tmp"
MISTAKES = {
    "--lam 2": "--lam: not in a sweep; use --lams",
    "--seed=3": "--seed: not in a sweep; use --seeds",
    "--sead 3": "--sead: unknown (did you mean --seed?)",
    "--dry_run": "--dry_run: not in a sweep; use --plan",
    "--label_len 30": "demo S 8: --label_len 30: must not exceed --seq_len 24",
    OWN: f"custom S 8: --target tmp: {ROOT}/data/demo/demo.csv has no such value column (did you ",
    "--shard 0/4": "--shard 0/4: must be K/N with K from 1 to N",
    "--shard 5/4": "--shard 5/4: must be K/N with K from 1 to N",
    "--signs up": "--signs up: unknown",
    "--lams nan": "--lams: nan: must be a finite number",
    "--seeds -1": "--seed -1: must be from 0 to",
    "--engine rays": "--engine rays: unknown (did you mean ray?)",
    "--jobs 0": "--jobs 0: must be at least 1",
    "--runs_per_gpu 0": "--runs_per_gpu 0: must be auto or at least 1",
    "--batch_size 7000": "--batch_size 7000: demo has 6080 training windows",
    "--engine ray --jobs 2": "--jobs: Ray decides how many fit",
    "--settings nowhere.txt": "--settings nowhere.txt: cannot be read ([Errno 2] No such file",
    "--settings /dev/null": "--settings /dev/null: no setting in it",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_one_line_before_anything_runs(words, tmp_path):
    with pytest.raises(UserError) as caught:
        main([*SETTING, "--results", str(tmp_path / "results"), *words.split()])
    message = str(caught.value)
    assert MISTAKES[words] in message and "\n" not in message
    assert not (tmp_path / "results").exists()


def test_a_plan_needs_no_file_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("INFORMER_DATA", raising=False)
    words = [*SETTING, "--data", "ETTh2", "--results", str(tmp_path / "results")]
    assert main([*words, "--plan", "--jobs", "2"]) == 0
    first, *rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert first.startswith("informer on ETTh2: features S, LipReg along the feature axis, loss ")
    assert "loss MSE, MSE - 2 Lip, MSE + 2 Lip, seeds 0 1 2 3 4; " in first
    assert first.endswith(f"{tmp_path}/results/logs")
    assert rows[1].startswith("informer ETTh2 S 24-12-8 15 0 0 0 0 15 ")
    assert rows[2] == "total 15 0 0 0 0 15" and rows[3].startswith("time left: about ")
    assert rows[3].endswith("runs at a time: 2, threads per run: 1")
    with pytest.raises(UserError, match=r"^ETTh2\.csv: not found"):
        main(words)
    assert not (tmp_path / "results").exists()


def test_gpus_are_taken_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")

    def gpus(*words: str, jobs: int | None = None, per_gpu: str = "1") -> list[str | None]:
        _, options = parse([*SETTING, *words])
        slots = Local(options, jobs, per_gpu, 10**9).slots
        return [slot.get("CUDA_VISIBLE_DEVICES") for slot in slots]

    assert gpus() == ["3", "5"]
    assert gpus(jobs=3) == ["3", "5", "3"]
    assert gpus(per_gpu="2") == ["3", "5", "3", "5"]
    assert gpus("--device", "cuda", per_gpu="2") == ["3", "5", "3", "5"]
    for processor in (("--device", "cpu"), ("--use_gpu", "0")):
        assert gpus(*processor, jobs=2) == [None, None]
    for one in (("--device", "cuda:1"), ("--gpu", "1")):  # the flag, not a variable, names it
        assert gpus(*one) == [None] and gpus(*one, per_gpu="3") == [None] * 3
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus() == ["0", "1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpus() == ["0"]


STEPS = {  # seconds on two threads of an AMD EPYC with AVX-512: docs/bench/steps.csv, growth.csv
    "--seq_len 48 --label_len 48 --factor 3": 0.3124,
    "--seq_len 192 --label_len 48 --factor 5": 0.9267,
    "--seq_len 720 --label_len 168 --factor 5": 3.536,
}


def test_counted_operations_tell_how_measured_steps_compare():
    paces = []
    for words, seconds in STEPS.items():
        cell = f"--model informer --data ETTh2 --features S --pred_len 24 {words}"
        (run,) = expand([cell.split()], [0], ["minus"], [0])
        paces.append(seconds / cost.cost_of(run.config, run.place).train)
    assert max(paces) / min(paces) < 1.2


@pytest.mark.parametrize("model", MODELS)
def test_weights_and_peak_are_those_of_the_model_that_is_built(model):
    words = ["--model", model, "--data", "demo", "--features", "M", "--d_model", "128"]
    config, options = parse([*words, "--d_ff", "512", "--seq_len", "96"])
    counted = cost.cost_of(config, (config.data, options.root_path, options.data_path))
    exp = Exp_Informer(config, options)
    assert counted.weights == sum(value.nbytes for value in exp.model.state_dict().values())
    assert counted.memory > 4 * counted.weights  # weights, gradients, two moments


def test_as_many_runs_as_the_memory_of_the_gpu_or_the_container_holds(monkeypatch, tmp_path):
    def side_by_side(device: str, run: float) -> int:
        _, options = parse([*SETTING, "--device", device])
        return len(Local(options, None, "auto", round(run)).slots)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(workers, "memory_limit", lambda: round(10e9))
    assert [side_by_side("cpu", run) for run in (1e9, 0.0, 99e9)] == [5, 16, 1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(workers, "apart", lambda _, number: 16e9 if number == 1 else 0)
    assert [side_by_side("cuda:1", run) for run in (9.8e9, 1e9)] == [1, 8]


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_the_memory_of_a_container_is_its_limit(file, tmp_path):
    machine = workers.memory_limit(tmp_path)
    (tmp_path / "memory").mkdir()
    for text, limit in (("max", machine), ("5000", 5000), (str(2**63), machine)):
        (tmp_path / file).write_text(f"{text}\n")
        assert workers.memory_limit(tmp_path) == limit


def test_a_plan_is_calibrated_by_recorded_runs_of_this_kind_of_processor_alone(monkeypatch):
    study = pd.read_csv(ROOT / "results/study/runs.csv")
    for kind, paces in study.groupby("processor"):
        monkeypatch.setattr(cost, "environment", lambda _, kind=kind: {"processor": kind})
        found = cost.recorded_paces(study, 1, "off")
        assert len(found) == len(paces) and 1e-12 < min(found) < max(found) < 1e-10
        assert not cost.recorded_paces(study, 2, "off")
        assert not cost.recorded_paces(study, 1, "bf16")


def test_runs_of_a_recorded_study_are_done(tmp_path, capsys):
    runs = expand([SETTING], [0.0, 2.0], ["minus"], [0, 1])
    ended = pd.read_csv(ROOT / "results/study/runs.csv").head(3)
    ended["run"] = [run.name for run in runs[:3]]
    ended["status"] = ["finished", "failed", "unfinished"]
    ended.to_csv(tmp_path / "runs.csv")
    words = ["--lams", "0", "2", "--signs", "minus", "--seeds", "0", "1", "--plan", "--recorded"]
    assert main([*SETTING, *words, str(tmp_path / "runs.csv")]) == 0
    assert " 4 0 2 0 0 2 " in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match=r"is not a study.s runs\.csv"):
        main([*SETTING, *words, str(ROOT / "README.md")])


def test_an_own_file_that_takes_long_names_a_smaller_model(monkeypatch, capsys):
    monkeypatch.setattr(cost, "apart", lambda *_: 1e-11)  # seconds an operation
    own = f"--data custom --root_path {ROOT}/data/demo --data_path demo.csv --target temp"
    words = f"--model informer {own} --features S --plan --jobs 1 --results nowhere".split()
    monkeypatch.setattr(cost, "recorded_paces", lambda *_: [])
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "from the fastest of a few steps timed here; " in text
    long, short = (
        re.search(rf"{name} (\d.*?)(, less|\n)", text)
        for name in ("time left: about", "--d_model 64 --d_ff 256 --n_heads 4, takes about")
    )
    assert long and short and " h" in long[1] and re.search("min|[0-4]\\.. h", short[1])
    assert main([*words, "--d_model", "64", "--d_ff", "256"]) == 0
    assert "smaller model" not in capsys.readouterr().out


def test_progress_names_the_epoch_and_the_time_left_of_each_run(monkeypatch, capsys, tmp_path):
    words = [*SETTING, "--results", str(tmp_path), "--train_epochs", "6"]
    plan = Plan(expand([words], [0, 2], ["minus"], [0]), threads=1)
    plan.seconds = dict.fromkeys(plan.seconds, 600.0)
    progress = Progress(plan, side_by_side=2)
    assert progress.text() == "0/2 runs, about 10.0 min left"
    (first, one), (second, other) = progress.jobs.items()
    one.log.parent.mkdir()
    one.log.write_text("name: loss = MSE\nepoch 1/6, step 10/20: 9 s left MSE 1\n")
    other.log.write_text("epoch 2/6: train MSE 1\nvalidation, step 3/4: 1 s left \n")
    start = progress.begun
    progress.text()
    monkeypatch.setattr(time, "time", lambda: start + 60)
    one.log.write_text("epoch 2/6, step 10/20: 9 s left MSE 1\n")
    text = progress.text().split("; ")
    assert text[1] == f"{first.rpartition('-')[0]}: epoch 2/6, 4.5 min left"
    assert text[2] == f"{second.rpartition('-')[0]}: epoch 3/6, 6.7 min left"
    monkeypatch.setattr("exp.sweep.LINE_SECONDS", 0.0)
    progress.show()
    progress.left.pop(first)
    progress.show(f"{first}: done")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "; ".join(text) and lines[1].endswith(f"; {first}: done")
    assert lines[1].startswith("1/2 runs, about ")


def test_a_forecast_asked_for_later_is_made(tmp_path, capsys):
    words = [*SETTING, "--results", str(tmp_path), "--lams", "0", "--seeds", "0", "--jobs", "1"]
    words += ["--train_epochs", "1"]
    assert main(words) == 0 and not list(tmp_path.glob("*/prediction.csv"))
    assert main([*words, "--do_predict"]) == 0
    assert "done 1, skipped 0 " in capsys.readouterr().out and list(
        tmp_path.glob("*/prediction.csv")
    )
    assert main([*words, "--do_predict"]) == 0
    assert "done 0, skipped 1 " in capsys.readouterr().out


def test_killed_and_started_again_every_run_is_done_once(start_sweep, tmp_path, capsys):
    words = ("--seeds", "0", "1", "--signs", "minus", "--jobs", "2", "--shard")
    shards = [(*words, shard) for shard in ("1/2", "2/2")]
    sweeps = [start_sweep(*shard, results=tmp_path) for shard in shards]
    wait_for(lambda: under_way(tmp_path) != {}, sweeps[0])
    for sweep in sweeps:
        sweep.kill()
        sweep.communicate()
    for shard in shards:
        assert main([*SETTING, "--results", str(tmp_path), *shard]) == 0
        assert "failed 0" in capsys.readouterr().out
    assert statuses(tmp_path) == ["finished"] * 4
    for log in (tmp_path / "logs").iterdir():
        assert log.read_text().count("val MSE") == 2  # epochs, by whatever process


def test_failed_killed_and_stopped_runs_take_no_other_along(start_sweep, tmp_path, capsys):
    settings, results = tmp_path / "settings.txt", tmp_path / "results"
    first = "--factor 3  # the one that is killed, as if out of memory"
    settings.write_text(f"{first}\n\n--learning_rate 1e30\n--factor 4\n")
    words = ("--settings", str(settings), "--lams", "0", "--seeds", "0", "--jobs", "1")
    sweep = start_sweep(*words, results=results)
    wait_for(lambda: under_way(results) != {}, sweep)
    ((victim, process),) = under_way(results).items()
    os.kill(process, signal.SIGKILL)
    code, output, _ = finish(sweep)
    assert code == 1
    assert "done 1, skipped 0 (done before), failed 2" in output
    assert f"{victim}: killed by SIGKILL (out of memory?) (log: {results}/logs/{victim}" in output
    assert ": the loss stopped being finite at step 2 (MSE " in output
    assert statuses(results) == ["failed", "finished", "unfinished"]

    sweep = start_sweep(*words, results=results)
    wait_for(lambda: under_way(results) != {}, sweep)
    sweep.send_signal(signal.SIGTERM)
    code, _, errors = finish(sweep)
    assert (code, errors) == (143, "stopped by SIGTERM; the same command continues\n")
    assert under_way(results) == {}, "the sweep left a process behind"

    before = ended(results)
    assert main([*SETTING, *words, "--results", str(results)]) == 1
    assert "done 1, skipped 1 (done before), failed 1" in capsys.readouterr().out
    assert statuses(results) == ["failed", "finished", "finished"]
    after = ended(results)
    assert {name: after[name] for name in before} == before
