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
from exp.grid import expand, shard_of, step_seconds
from exp.sweep import main
from tests.records import ENVIRONMENT
from tests.runs import ROOT
from tests.sweeps import SETTING, ended, finish, statuses, under_way, wait_for
from utils.files import UserError


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
    "--shard 0/4": "--shard 0/4: must be K/N with K from 1 to N",
    "--jobs -1": "--jobs, --runs_per_gpu: must be at least 1",
    "--engine ray": "pip install -r requirements-ray.txt",
    "--settings nowhere.txt": "--settings nowhere.txt: cannot be read ([Errno 2] No such file",
    "--settings /dev/null": "--settings /dev/null: no setting in it",
    f"--recorded {ROOT}/README.md": "README.md: is not a study's runs.csv",
    f"--data custom --root_path {ROOT}/data/demo --data_path demo.csv --target tmp": "demo.csv",
}


@pytest.mark.parametrize("flags", MISTAKES)
def test_mistakes_are_one_line_before_anything_runs(flags, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError) as caught:
        main([*SETTING, "--results", str(tmp_path / "results"), *flags.split()])
    message = str(caught.value)
    assert MISTAKES[flags] in message and "\n" not in message
    assert not (tmp_path / "results").exists()


def test_a_plan_needs_no_file_writes_nothing_and_says_how_long_it_takes(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.delenv("INFORMER_DATA", raising=False)
    setting = [*SETTING, "--data", "ETTh2", "--results", str(tmp_path)]
    flags = [*setting, "--jobs", "2"]
    assert main([*flags, "--plan"]) == 0
    first, counts, cell, logs, left = capsys.readouterr().out.splitlines()
    assert first.startswith("features S, seeds 0 1 2 3 4, loss = MSE (no regularizer); loss = ")
    assert counts == "15 new" and logs.endswith(f"{tmp_path}/logs")
    each = r"  informer_ETTh2_S_24-12-8: 15 runs, \d+ s each \(by a step timed here\)"
    assert re.fullmatch(each, cell)
    assert left.startswith("time left: about ")
    assert left.endswith("; runs at a time: 2, threads per run: 1")
    assert main([*flags, "--seeds", "0", "--shard", "2/2"]) == 0
    assert capsys.readouterr().out == "no run falls into this share\n"
    with pytest.raises(UserError, match=r"^ETTh2\.csv: neither in"):
        main(flags)
    assert not list(tmp_path.iterdir())
    done = expand([setting], [8.0], ["plus"], [0, 1, 2])
    for run, minutes in zip(done, (6, 9, 10), strict=True):
        run.record.folder.mkdir()
        run.record.start(ENVIRONMENT)
        run.record.finish("finished", {"wall_seconds": minutes * 60.0})
    flags += ["--lams", "0", "8", "--signs", "plus", "--seeds", "2", "3", "--plan"]
    assert main(flags) == 0
    *_, counts, cell, _, left = capsys.readouterr().out.splitlines()
    assert counts == "3 new, 1 done" and "4 runs, 9.0 min each (median of 3 finished)" in cell
    assert left.startswith("time left: about 13.5 min, ")
    names = [run.name for run in expand([setting], [0.0], ["plus"], [2, 3, 4])]
    study = {"run": names, "status": ["failed", "unfinished", "finished"]}
    pd.DataFrame(study).to_csv(tmp_path / "runs.csv")
    assert main([*flags, "--recorded", str(tmp_path / "runs.csv")]) == 0
    assert "\n1 in the study, 1 done, 2 new\n" in capsys.readouterr().out


STEPS = [  # what a plan must be able to time: its model, its file, its embedding
    "--model autoformer --data ECL --features M --amp off",
    "--model informerstack --data ETTm1 --features MS --embed fixed --freq t",
    f"--model informer --data custom --root_path {ROOT}/tests --data_path part.csv --target temp",
]


@pytest.mark.parametrize("flags", STEPS)
def test_a_step_of_any_setting_is_timed_and_steps_are_counted(flags):
    sizes = "--seq_len 24 --label_len 12 --pred_len 8 --d_model 8 --n_heads 2 --d_ff 16"
    words = [*flags.split(), *sizes.split(), "--train_epochs"]
    short, long = expand([[*words, "6"], [*words, "12"]], [0.0], ["minus"], [0])
    assert step_seconds(short, 1) > 0
    assert long.steps == pytest.approx(2 * short.steps, rel=0.1)


def test_gpus_are_taken_in_turn_and_processors_as_memory_allows(monkeypatch):
    def places(*flags: str, jobs: int | None = None, per_gpu: int = 1) -> list[str]:
        found = workers.places_for(parse([*SETTING, *flags])[1], jobs, per_gpu)
        return [" ".join(words) for words in found]

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    both = ["--device cuda:0", "--device cuda:1"]
    assert places() == places("--device", "cuda") == both
    assert places(jobs=1) == both[:1] and places(per_gpu=2) == places(jobs=4) == both * 2
    for one in (("--device", "cuda:1"), ("--gpu", "1")):  # the run's own flags say which
        assert places(*one) == [""] and places(*one, per_gpu=3) == [""] * 3
    monkeypatch.setattr(workers, "cores", lambda: 16)
    for memory, number in ((10**9, 1), (9 * 10**9, 2), (10**12, 16)):
        monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": memory}.get)
        assert places("--device", "cpu") == places("--use_gpu", "0") == [""] * number


def test_progress_is_shown_and_a_sweep_is_repeated_by_force(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "LINE_SECONDS", 0.0)
    flags = [*SETTING, "--results", str(tmp_path), "--lams", "0", "--seeds", "0", "1"]
    flags += ["--jobs", "2"]
    assert main(flags) == 0
    output, line = capsys.readouterr().out, r"\n  informer_demo_S_24-12-8_c0_s[01]: "
    assert re.search(rf"\n0/2 runs, about \S+ \w+ left{line}.*{line}", output)
    assert re.search(rf"{line}epoch 1/2: train MSE ", output)
    assert re.search(r"\ninformer_demo_S_24-12-8_c0_s1-\w{8}: done\n", output)
    assert main([*flags, "--save_forecasts"]) == 0
    assert "done 0, skipped 2 " in capsys.readouterr().out
    assert main([*flags, "--save_forecasts", "--force", "--seeds", "1"]) == 0
    assert len(list(tmp_path.glob("*_s1-????????/forecasts.npz"))) == 1


def test_killed_and_started_again_every_run_is_done_once(start_sweep, tmp_path, capsys):
    flags = ("--seeds", "0", "1", "--signs", "minus", "--jobs", "2", "--shard")
    shards = [(*flags, shard) for shard in ("1/2", "2/2")]
    sweeps = [start_sweep(*shard, results=tmp_path) for shard in shards]
    wait_for(lambda: bool(under_way(tmp_path)), sweeps[0])
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
    wait_for(lambda: bool(under_way(results)), process)
    (victim,) = under_way(results)
    os.kill(victim, signal.SIGKILL)
    code, output, _ = finish(process)
    assert code == 1
    assert "done 1, skipped 0 (done before), failed 2" in output
    assert f": killed by SIGKILL (out of memory?) (log: {results}/logs/informer_demo_S_" in output
    assert ": the loss stopped being finite at step 2 (MSE " in output
    assert statuses(results) == ["failed", "finished", "unfinished"]

    process = start_sweep(*flags, results=results)
    wait_for(lambda: bool(under_way(results)), process)
    process.send_signal(signal.SIGTERM)
    code, _, errors = finish(process)
    assert (code, errors) == (143, "stopped by SIGTERM; the same command continues\n")
    assert not under_way(results), "the sweep left a process behind"

    before = ended(results)
    assert main([*SETTING, *flags, "--results", str(results)]) == 1
    assert "done 1, skipped 1 (done before), failed 1" in capsys.readouterr().out
    assert statuses(results) == ["failed", "finished", "finished"]
    after = ended(results)
    assert {name: after[name] for name in before} == before
