"""Sweeps: grids, shards, plans, and real sweeps that are stopped, killed and started again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.data_loader import window_counts
from exp.flags import parse
from exp.grid import expand, shard_of
from exp.plan import expected_seconds
from exp.sweep import main
from exp.workers import Local
from tests.runs import ROOT
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
from utils.errors import UserError


def test_lambda_zero_is_one_run_and_duplicates_are_removed():
    axes = [(*SETTING, "--lip_axis", axis) for axis in ("feature", "time", "feature")]
    runs = expand(axes, [0, 2, -2], ["minus", "plus"], [0, 1])
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
    for run in expand([SETTING], [0, 0.3], ["minus", "plus"], [7]):
        config, options = parse(list(run.flags))
        assert config == run.config
        assert options.itr == 1 and options.wait


@settings(deadline=None)  # machines differ
@given(st.sets(st.text(max_size=5)), st.integers(1, 20), st.randoms())
def test_shards_are_disjoint_complete_even_and_stable(names: set[str], count: int, random):
    shuffled = sorted(names)
    random.shuffle(shuffled)
    shards = [shard_of(shuffled, f"{i}/{count}") for i in range(1, count + 1)]
    assert sorted(name for shard in shards for name in shard) == sorted(names)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert shards == [shard_of(names, f"{i}/{count}") for i in range(1, count + 1)]


MISTAKES = {
    "--lam 2": "--lam: not in a sweep; use --lams",
    "--seed=3": "--seed: not in a sweep; use --seeds",
    "--sead 3": "--sead: unknown (did you mean --seed?)",
    "--dry_run": "--dry_run: not in a sweep; use --plan",
    "--label_len 30": "demo S 8: --label_len 30: must not exceed --seq_len 24",
    "--shard 0/4": "--shard 0/4: must be K/N with K from 1 to N",
    "--shard 5/4": "--shard 5/4: must be K/N with K from 1 to N",
    "--signs up": "--signs up: unknown",
    "--lams nan": "--lams: nan: must be a finite number",
    "--seeds -1": "--seed -1: must be at least 0",
    "--engine rays": "--engine rays: unknown (did you mean ray?)",
    "--jobs 0": "--jobs 0: must be at least 1",
    "--runs_per_gpu 0": "--runs_per_gpu 0: must be auto or at least 1",
    "--batch_size 7000": "--batch_size 7000: there are 6080 training windows",
    "--engine ray --jobs 2": "--jobs: Ray decides how many fit",
    "--settings nowhere.txt": "--settings nowhere.txt: cannot be read ([Errno 2] No such file",
    "--settings /dev/null": "--settings /dev/null: no setting in it",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_one_line_before_anything_runs(words: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        main([*SETTING, "--results", str(tmp_path / "results"), *words.split()])
    message = str(caught.value)
    assert MISTAKES[words] in message and "\n" not in message
    assert not (tmp_path / "results").exists()


def test_a_sweep_goes_on_when_its_reader_leaves(tmp_path: Path):
    words = [*SETTING, "--lams", "0", "--seeds", "0", "--results", str(tmp_path)]
    pipe = f"set -o pipefail; {sys.executable} -m exp.sweep {' '.join(words)} 2>&1 | head -n 1"
    answer = subprocess.run(
        ["bash", "-c", pipe], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer
    assert answer.stdout.startswith("setting ") and answer.stdout.count("\n") == 1
    assert statuses(tmp_path) == ["finished"]


def test_gpus_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")

    def gpus(*words: str, jobs: int | None = None, per_gpu: str = "1") -> list[str | None]:
        _, options = parse([*SETTING, *words])
        slots = Local.of(options, jobs, per_gpu).slots
        return [slot.get("CUDA_VISIBLE_DEVICES") for slot in slots]

    assert gpus() == ["3", "5"]
    assert gpus(jobs=3) == ["3", "5", "3"]
    assert gpus(per_gpu="2") == ["3", "5", "3", "5"]
    assert gpus("--device", "cpu", jobs=2) == [None, None]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus() == ["0", "1"]


STEPS = {  # seconds on two threads of an AMD EPYC with AVX-512: docs/bench/steps.csv, growth.csv
    "48 48 prob 3": 0.3124,
    "720 168 prob 5": 3.536,
    "192 48 prob 5": 0.9267,
    "1440 48 prob 5": 8.207,
    "96 48 full 5": 0.4914,
    "720 48 full 5": 6.508,
}


@pytest.mark.parametrize("lengths", STEPS)
def test_an_estimate_is_within_a_quarter_of_the_measured_step(lengths: str):
    seq_len, label_len, attn, factor = lengths.split()
    words = f"--model informer --data ETTh2 --features S --seq_len {seq_len} --attn {attn}"
    words += f" --label_len {label_len} --pred_len 24 --factor {factor}"
    (run,) = expand([words.split()], [0], ["minus"], [0])
    epoch = expected_seconds(run, 2, threads=2) - expected_seconds(run, 1, threads=2)
    train, val, _ = window_counts("ETTh2", "", "", int(seq_len), 24)
    step = epoch * 32 / (train + val / 3)
    assert step == pytest.approx(STEPS[lengths], rel=0.25)


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
