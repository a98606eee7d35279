"""Sweeps: grids, shards, plans, and real sweeps that are stopped, killed and started again."""

import os
import random
import re
import signal
import sys

import pandas as pd
import pytest
import torch

from exp import sweep, workers
from exp.config import parse
from exp.grid import expand, shard_of, step_operations
from exp.sweep import main
from tests.runs import ROOT
from tests.sweeps import SETTING, ended, finish, statuses, under_way, wait_for
from utils.files import UserError

STUDY = ROOT / "results" / "study" / "runs.csv"


def test_lambda_zero_is_one_run_and_flags_give_the_run_itself():
    axes = [(*SETTING, "--lip_axis", axis) for axis in ("feature", "time", "feature")]
    runs = expand(axes, [0, 0.3, -0.3], ["minus", "plus"], [0, 1])
    assert [(run.config.lip_axis, run.config.seed, run.config.lip_coef) for run in runs] == [
        *(("feature", seed, c) for seed in (0, 1) for c in (0.0, -0.3, 0.3)),
        *(("time", seed, c) for seed in (0, 1) for c in (-0.3, 0.3)),
    ]
    for run in runs:
        config, options = parse(list(run.flags))
        assert config == run.config and options.itr == 1 and options.wait


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
    again = [shard_of(runs, f"{i}/{count}") for i in range(1, count + 1)]
    assert [{run.name for run in one} for one in shards] == [{r.name for r in one} for one in again]


MISTAKES = {
    "--lam 2": "--lam: not in a sweep; use --lams",
    "--seed=3": "--seed: not in a sweep; use ",
    "--label_len 30": "--label_len 30: must not exceed --seq_len 24",
    "--shard 0/4": "--shard 0/4: must be K/N with K from 1 to N",
    "--lams nan": "--lams: nan: must be a finite number",
    "--engine rays": "--engine rays: unknown (did you mean ray?)",
    "--jobs 0": "--jobs, --runs_per_gpu: must be at least 1",
    "--batch_size 7000": "--batch_size 7000: demo has 6080 training windows",
    "--engine ray": "Ray is not installed; pip install -r requirements-ray.txt",
    "--engine ray --jobs 2": "--jobs: Ray decides how many fit",
    "--settings nowhere.txt": "--settings nowhere.txt: cannot be read ([Errno 2] No such file",
    "--settings /dev/null": "--settings /dev/null: no setting in it",
    f"--recorded {ROOT}/README.md": "README.md: is not a study's runs.csv",
    f"--data custom --root_path {ROOT}/data/demo --data_path demo.csv --target tmp": (
        "demo.csv has no such value column (did you "
    ),
}


@pytest.mark.parametrize("flags", MISTAKES)
def test_mistakes_are_one_line_before_anything_runs(flags, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError) as caught:
        main([*SETTING, "--results", str(tmp_path / "results"), *flags.split()])
    message = str(caught.value)
    assert MISTAKES[flags] in message and "\n" not in message
    assert not (tmp_path / "results").exists()


def test_a_plan_needs_no_file_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("INFORMER_DATA", raising=False)
    flags = [*SETTING, "--data", "ETTh2", "--results", str(tmp_path / "results")]
    assert main([*flags, "--plan", "--jobs", "2"]) == 0
    first, counts, setting, logs, time, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("features S, seeds 0 1 2 3 4, loss = MSE (no regularizer); loss = ")
    assert counts == "15 new"
    assert re.fullmatch(r"  informer_ETTh2_S_24-12-8: 15 runs, \d+ s each", setting)
    assert logs.endswith(f"{tmp_path}/results/logs")
    assert time.startswith("time left: about ")
    assert time.endswith("; runs at a time: 2, threads per run: 1")
    one = [*flags, "--lams", "0", "--seeds", "0"]
    assert main([*one, "--plan", "--jobs", "2"]) == 0
    *_, each, _, time = capsys.readouterr().out.splitlines()[:5]
    found = re.search(r" about (\d+ s),", time)
    assert found and found[1] in each and "at a time: 1," in time
    assert main([*one, "--shard", "2/2"]) == 0
    assert capsys.readouterr().out.startswith("no run falls into this share\n")
    with pytest.raises(UserError, match=r"^ETTh2\.csv: not found"):
        main(flags)
    assert not (tmp_path / "results").exists()


def test_gpus_are_taken_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(workers, "run_to_end", lambda *given: str(given[3]))
    runs = expand([SETTING], [0], ["minus"], list(range(6)))

    def gpus(*flags: str, jobs: int | None = None, per_gpu: int = 1) -> tuple[int, list[str]]:
        engine = workers.Local(parse([*SETTING, *flags])[1], jobs, per_gpu)
        ended = [str(text) for some in engine.carry_out(runs) for _, text in some]
        return engine.side_by_side, sorted({re.sub(r"\D", "", text) for text in ended})

    assert gpus() == gpus("--device", "cuda") == (2, ["3", "5"])
    assert gpus(jobs=1) == (1, ["3"]) and gpus(per_gpu=2) == (4, ["3", "5"])
    for processor in (("--device", "cpu"), ("--use_gpu", "0")):
        assert gpus(*processor, jobs=2) == (2, [""])
    for one in (("--device", "cuda:1"), ("--gpu", "1")):  # the flag, not a variable, names it
        assert gpus(*one) == (1, [""]) and gpus(*one, per_gpu=3) == (3, [""])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus() == (2, ["0", "1"])


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_as_many_runs_as_the_container_holds(file, tmp_path, monkeypatch):
    (tmp_path / "memory").mkdir()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    limited = workers.memory_limit
    for limit, number in ((10**9, 1), (9 * 10**9, 2)):
        (tmp_path / file).write_text(f"{limit}\n")
        monkeypatch.setattr(workers, "memory_limit", lambda: limited(tmp_path))
        assert workers.Local(parse(SETTING)[1], None, 1).side_by_side == number
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for text in ("max", str(2**63)):
        (tmp_path / file).write_text(f"{text}\n")
        assert limited(tmp_path) == machine


STEPS = {  # seconds on two threads of an AMD EPYC with AVX-512: docs/bench/steps.csv
    "--seq_len 48 --label_len 48 --factor 3": 0.3124,
    "--seq_len 192 --label_len 48 --factor 5": 0.9267,
    "--seq_len 720 --label_len 168 --factor 5": 3.536,
}


def test_counted_operations_tell_how_measured_steps_compare():
    paces = []
    for flags, seconds in STEPS.items():
        cell = f"--model informer --data ETTh2 --features S --pred_len 24 {flags}"
        (run,) = expand([cell.split()], [0], ["minus"], [0])
        paces.append(seconds / step_operations(run.config, run.columns))
    assert max(paces) / min(paces) < 1.2


def test_recorded_runs_are_done_and_calibrate_a_plan_on_their_kind_of_processor_alone(
    tmp_path, capsys, monkeypatch
):
    study = pd.read_csv(STUDY)
    for kind, recorded in study.groupby("processor"):
        monkeypatch.setattr(sweep, "environment", lambda _, kind=kind: {"processor": kind})
        found = sweep.recorded_paces(study, 1, "off")
        assert len(found) == len(recorded) and 1e-12 < min(found) < max(found) < 1e-10
        assert not sweep.recorded_paces(study, 2, "off")
        assert not sweep.recorded_paces(study, 1, "bf16")
    runs = expand([SETTING], [0.0, 2.0], ["minus"], [0, 1])
    ended = study.head(3).assign(run=[run.name for run in runs[:3]])
    ended.assign(status=["finished", "failed", "unfinished"]).to_csv(tmp_path / "runs.csv")
    flags = ["--signs", "minus", "--seeds", "0", "1", "--plan", "--recorded"]
    assert main([*SETTING, *flags, str(tmp_path / "runs.csv")]) == 0
    assert "\n2 in the study, 2 new\n" in capsys.readouterr().out


def test_steps_are_timed_without_recorded_runs_and_long_plans_name_a_small_model(
    monkeypatch, capsys
):
    monkeypatch.setattr(sweep, "recorded_paces", lambda *_: [])
    own = f"--data custom --root_path {ROOT}/data/demo --data_path demo.csv --target temp"
    flags = f"--model informer {own} --features S --plan --jobs 1 --results nowhere".split()
    assert main([*flags, "--train_epochs", "99", "--batch_size", "2"]) == 0
    text = capsys.readouterr().out
    assert "from the fastest of a few steps timed here; " in text
    unit = {"min": 60, "h": 3600, "days": 86400}
    long, short = (
        float(found[1]) * unit[found[2]]
        for name in ("left:", "n_heads 4, takes")
        if (found := re.search(rf"{name} about (\S+) (min|h|days)", text))
    )
    assert long > 4 * 3600 and short < long / 2
    assert main([*flags, "--seeds", "0", "--d_model", "64", "--d_ff", "256"]) == 0
    assert "smaller model" not in capsys.readouterr().out


def test_progress_is_shown_and_what_is_asked_for_later_made_or_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "LINE_SECONDS", 0.0)
    flags = [*SETTING, "--results", str(tmp_path), "--lams", "0", "--seeds", "0", "1"]
    flags += ["--jobs", "2"]
    assert main(flags) == 0 and not list(tmp_path.glob("*/prediction.csv"))
    output, line = capsys.readouterr().out, r"\n  informer_demo_S_24-12-8_c0_s[01]: "
    assert re.search(rf"\n0/2 runs, about \d+ s left by the plan{line}.*{line}", output)
    assert re.search(rf"{line}epoch 1/2: train MSE ", output)
    assert re.search(r"\ninformer_demo_S_24-12-8_c0_s1-\w{8}: done\n", output)
    assert "made without" not in output
    assert main([*flags, "--do_predict"]) == 0
    output = capsys.readouterr().out
    assert "done 2, skipped 0 " in output and "time left: about 0 s" in output
    assert len(list(tmp_path.glob("*/prediction.csv"))) == 2
    assert main([*flags, "--do_predict", "--test_each_epoch", "--save_forecasts"]) == 0
    output = capsys.readouterr().out
    for flag in ("save_forecasts", "test_each_epoch"):
        assert f"\nnote: 2 of the done were made without --{flag}; --force repeats them" in output
    assert "done 0, skipped 2 " in output
    assert main([*flags, "--save_forecasts", "--force", "--seeds", "1"]) == 0
    assert len(list(tmp_path.glob("*_s1-????????/forecasts.npz"))) == 1


def test_killed_and_started_again_every_run_is_done_once(start_sweep, tmp_path, capsys):
    flags = ("--seeds", "0", "1", "--signs", "minus", "--jobs", "2", "--shard")
    shards = [(*flags, shard) for shard in ("1/2", "2/2")]
    sweeps = [start_sweep(*shard, results=tmp_path) for shard in shards]
    wait_for(lambda: under_way(tmp_path) != {}, sweeps[0])
    for process in sweeps:
        process.kill()
        process.communicate()
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
    flags = ("--settings", str(settings), "--lams", "0", "--seeds", "0", "--jobs", "1")
    process = start_sweep(*flags, results=results)
    wait_for(lambda: under_way(results) != {}, process)
    ((victim, number),) = under_way(results).items()
    os.kill(number, signal.SIGKILL)
    code, output, _ = finish(process)
    assert code == 1
    assert "done 1, skipped 0 (done before), failed 2" in output
    assert f"{victim}: killed by SIGKILL (out of memory?) (log: {results}/logs/{victim}" in output
    assert ": the loss stopped being finite at step 2 (MSE " in output
    assert statuses(results) == ["failed", "finished", "unfinished"]

    process = start_sweep(*flags, results=results)
    wait_for(lambda: under_way(results) != {}, process)
    process.send_signal(signal.SIGTERM)
    code, _, errors = finish(process)
    assert (code, errors) == (143, "stopped by SIGTERM; the same command continues\n")
    assert under_way(results) == {}, "the sweep left a process behind"

    before = ended(results)
    assert main([*SETTING, *flags, "--results", str(results)]) == 1
    assert "done 1, skipped 1 (done before), failed 1" in capsys.readouterr().out
    assert statuses(results) == ["failed", "finished", "finished"]
    after = ended(results)
    assert {name: after[name] for name in before} == before
