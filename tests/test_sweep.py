"""Sweeps: grids, shards, scripts, and real sweeps that are stopped, killed and started again."""

import os
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import main_informer
from exp.engines import Local
from exp.flags import parse
from exp.grid import expand, parse_shard, shard_of
from exp.sweep import main
from tests.runs import ROOT, TINY
from tests.sweeps import (
    SETTING,
    Start,
    ended,
    epochs_in_log,
    finish,
    statuses,
    under_way,
    wait_for,
)

PAPER = pd.read_csv(ROOT / "paper" / "informer_settings.csv")
COLUMNS = ["features", "pred_len", "seq_len", "label_len", "e_layers", "d_layers", "factor"]


def test_lambda_zero_is_one_run_and_duplicates_are_removed():
    axes = [(*SETTING, "--lip_axis", axis) for axis in ("feature", "time", "feature")]
    runs = expand(axes, lams=[0, 2, -2], signs=["minus", "plus"], seeds=[0, 1])
    found = [
        (r.config.seed, r.config.lip_coef, r.config.lip_axis if r.config.lip_coef else None)
        for r in runs
    ]
    assert sorted(found, key=str) == sorted(
        [
            (seed, c, axis)
            for seed in (0, 1)
            for c, axis in [
                (0.0, None),
                *((c, a) for c in (-2.0, 2.0) for a in ("feature", "time")),
            ]
        ],
        key=str,
    )


def test_a_runs_flags_give_the_run_itself():
    for run in expand([SETTING], lams=[0, 0.3], signs=["minus", "plus"], seeds=[7]):
        config, options = parse(list(run.flags))
        assert config == run.config
        assert options.itr == 1 and options.wait


@given(st.sets(st.text(max_size=5)), st.integers(1, 20), st.randoms())
def test_shards_are_disjoint_complete_even_and_stable(names: set[str], count: int, random):
    shuffled = sorted(names)
    random.shuffle(shuffled)
    shards = [shard_of(shuffled, parse_shard(f"{i}/{count}")) for i in range(1, count + 1)]
    assert sorted(name for shard in shards for name in shard) == sorted(names)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert shards == [shard_of(names, (i, count)) for i in range(1, count + 1)]


def script_output(script: str, folder: Path, *words: str, **variables: str) -> list[str]:
    """Run a script with an interpreter that prints the sweep's settings, then its arguments."""
    python = folder / "python"
    python.write_text('#!/bin/sh\n[ "$2" = pip ] && exit 0\ncat "$4"\nshift 4\necho "$@"\n')
    python.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", f"scripts/{script}.sh", *words],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "VIRTUAL_ENV": str(folder), **variables},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()


@pytest.mark.parametrize("script", [*PAPER["dataset"].unique(), "ETTm2"])
def test_scripts_hold_the_papers_settings(script: str, tmp_path: Path):
    told, *lines, flags = script_output(script, tmp_path)
    assert "along the feature axis" in told and "--lip_axis feature" in flags
    configs = [parse(line.split())[0] for line in lines]
    assert {config.data for config in configs} == {script}
    rows = PAPER.loc[PAPER["dataset"] == script.replace("ETTm2", "ETTm1"), COLUMNS]
    found = [{name: getattr(config, name) for name in COLUMNS} for config in configs]
    assert found == rows.to_dict("records")
    seeds = "--seeds 0 1 2 --" if script == "WTH" else "--seeds 0 1 2 3 4 --"
    assert f"--lams 0 2 --signs minus plus {seeds}" in flags


def test_variables_and_arguments_narrow_and_widen_a_script(tmp_path: Path):
    variables = {
        **{"FEATURES": "S", "PRED_LENS": "24 720", "LAMS": "1 8", "SIGNS": "plus", "SEEDS": "3"},
        **{"AXIS": "time", "JOBS": "3", "SHARD": "2/4", "RESULTS": "here", "ENGINE": "ray"},
    }
    _, *lines, flags = script_output("ETTh2", tmp_path, "--amp", "bf16", "--plan", **variables)
    assert [parse(line.split())[0].pred_len for line in lines] == [24, 720]
    assert flags == (
        "--lams 1 8 --signs plus --seeds 3 --engine ray --shard 2/4 --jobs 3 "
        "--lip_axis time --results here --amp bf16 --plan"
    )


def test_a_script_plans_on_the_real_file_and_writes_nothing(benchmark: Path, tmp_path: Path):
    answer = subprocess.run(
        ["bash", "scripts/ETTh2.sh", "--d_model", "16", "--plan"],
        cwd=ROOT,
        env={**os.environ, "PRED_LENS": "24", "RESULTS": str(tmp_path / "results")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    lines = [" ".join(line.split()) for line in answer.stdout.splitlines()]
    assert any(line.startswith("informer ETTh2 M 48-48-24 15 0 0 0 15 ") for line in lines)
    assert any(line.startswith("informer ETTh2 S 48-48-24 15 0 0 0 15 ") for line in lines)
    assert "in all 30 0 0 0 30" in lines
    assert "settings estimated from a small step: 2" in answer.stdout
    assert not (tmp_path / "results").exists()


MISTAKES = {
    "--lam 2": "--lam: not in a sweep; use --lams",
    "--seed=3": "--seed: not in a sweep; use --seeds",
    "--sead 3": "--sead: unknown (did you mean --seed?)",
    "--dry_run": "--dry_run: not in a sweep; use --plan",
    "--label_len 30": "setting 1: --label_len 30: must not exceed --seq_len 24",
    "--shard 0/4": "--shard 0/4: must be K/N with K from 1 to N",
    "--shard 5/4": "--shard 5/4: must be K/N with K from 1 to N",
    "--signs up": "--signs up: unknown",
    "--lams nan": "--lams: nan: must be a finite number",
    "--seeds -1": "--seed -1: must be at least 0",
    "--engine rays": "--engine rays: unknown (did you mean ray?)",
    "--jobs 0": "--jobs 0: must be at least 1",
    "--engine ray --jobs 2": "--jobs: Ray decides how many fit",
    "--settings nowhere.txt": "--settings nowhere.txt: cannot be read ([Errno 2] No such file",
    "--settings /dev/null": "--settings /dev/null: no setting in it",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_one_line_before_anything_runs(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    code = main([*SETTING, "--results", str(tmp_path / "results"), *words.split()])
    errors = capsys.readouterr().err
    assert code == 2 and len(errors.splitlines()) == 1
    assert MISTAKES[words] in errors
    assert not (tmp_path / "results").exists()


def test_spreading_over_absent_gpus_is_refused(capsys: pytest.CaptureFixture[str]):
    if torch.cuda.device_count() > 9:
        pytest.skip("this machine has a tenth GPU")
    words = [*TINY, "--use_multi_gpu", "--devices", "0,9", "--dry_run"]
    assert main_informer.main(words) == 2
    assert "--devices 0,9: this machine has " in capsys.readouterr().err


def test_gpus_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")

    def places(*words: str, jobs: int | None = None) -> list[str | None]:
        _, options = parse([*SETTING, *words])
        return [place.get("CUDA_VISIBLE_DEVICES") for place in Local.of(options, jobs).places]

    assert places() == ["3", "5"]
    assert places(jobs=3) == ["3", "5", "3"]
    assert places("--device", "cpu", jobs=2) == [None, None]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert places() == ["0", "1"]


@pytest.mark.parametrize("shards", [("1/1",), ("1/2", "2/2")], ids=["whole", "two shards"])
def test_killed_and_started_again_every_run_is_done_once(
    shards: tuple[str, ...], start_sweep: Start, tmp_path: Path
):
    jobs = str(2 // len(shards))
    words = ("--signs", "minus", "--seeds", "0", "--jobs", jobs)
    sweeps = [start_sweep(*words, "--shard", shard, results=tmp_path) for shard in shards]
    for sweep in sweeps:
        wait_for(lambda: under_way(tmp_path) != {}, sweep)
    for sweep in sweeps:
        sweep.kill()
        sweep.communicate()
    for sweep in [start_sweep(*words, "--shard", shard, results=tmp_path) for shard in shards]:
        code, output, errors = finish(sweep)
        assert code == 0, errors
        assert "failed 0" in output
    assert statuses(tmp_path) == ["finished"] * 2
    assert [epochs_in_log(tmp_path, name) for name in ended(tmp_path)] == [2, 2]


def test_failed_killed_and_stopped_runs_take_no_other_along(start_sweep: Start, tmp_path: Path):
    settings = tmp_path / "settings.txt"
    settings.write_text(
        "--factor 3  # the one that is killed, as if out of memory\n\n"
        "--learning_rate 1e30\n"
        "--factor 4\n"
    )
    results = tmp_path / "results"
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
    code, output, _ = finish(start_sweep(*words, results=results))
    assert code == 1
    assert "done 1, skipped 1 (done before), failed 1" in output
    assert statuses(results) == ["failed", "finished", "finished"]
    after = ended(results)
    assert {name: after[name] for name in before} == before
