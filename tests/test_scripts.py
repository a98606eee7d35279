"""The scripts that people start: what they make of their variables, and real runs of them."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from exp.grid import Run, expand, shard_of
from exp.record import read_runs
from exp.sweep import build_parser
from tests.runs import ROOT

SMALL = "--d_model 8 --n_heads 2 --d_ff 16 --train_epochs 1 --threads 1"
REAL, SHOWN = f'exec {sys.executable} "$@"', 'printf "%q " "$@"; echo; cat'
COLUMNS = ["features", "pred_len", "seq_len", "label_len", "e_layers", "d_layers", "factor"]


@pytest.fixture
def bash(tmp_path: Path):
    """Run a command line of bash where `python`, but for pip, does something, and no data is."""

    def run(line: str, python: str = SHOWN, **variables: str) -> subprocess.CompletedProcess:
        command = tmp_path / "python"
        command.write_text(f'#!/usr/bin/env bash\n[ "$2" = pip ] || {{ {python}; }}\n')
        command.chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if k not in ("INFORMER_DATA", "RESULTS")}
        kept |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VIRTUAL_ENV": str(tmp_path)}
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line.replace("scripts/", f"{ROOT}/scripts/")],
            cwd=tmp_path,
            env={**kept, "own": "no file", **variables},
            check=False,
            capture_output=True,
            text=True,
        )

    return run


def runs_in(output: str) -> list[Run]:
    """Give the runs of the sweeps that a script would have started."""
    runs = []
    for call in output.split("-m exp.sweep --settings - ")[1:]:
        command, *lines = call.splitlines()
        args, common = build_parser().parse_known_args(shlex.split(command))
        settings = [(*line.split(), *common) for line in lines if line.startswith("--features")]
        runs += shard_of(expand(settings, args.lams, args.signs, args.seeds), args.shard)
    return runs


SCRIPTS = [("informer", data) for data in ("ETTh1", "ETTh2", "ETTm1", "ETTm2", "WTH", "ECL")]
SCRIPTS += [("autoformer", "weather"), ("transformer", "ETTh2")]


@pytest.mark.parametrize(("model", "data"), SCRIPTS)
def test_scripts_run_the_papers_settings(model, data, bash):
    runs = runs_in(bash(f"bash scripts/{data}.sh", MODEL=model).stdout)
    configs, seeds = [run.config for run in runs], range(3 if data == "WTH" else 5)
    paper = pd.read_csv(ROOT / f"paper/published/{model}_settings.csv")
    rows = paper.loc[paper["dataset"] == data.replace("ETTm2", "ETTm1"), COLUMNS]
    found = pd.DataFrame([{n: getattr(c, n) for n in COLUMNS} for c in configs]).drop_duplicates()
    assert found.to_dict("records") == rows.to_dict("records")
    assert {(c.data, c.model, c.lip_axis) for c in configs} == {(data, model, "feature")}
    assert sorted({c.lip_coef for c in configs}) == [-2.0, 0.0, 2.0]
    assert {c.seed for c in configs} == set(seeds)
    assert len(configs) == len(rows) * 3 * len(seeds)
    assert str(runs[0].options.results) == "results"


NARROWED = {  # command and variables: model, data, features, pred_len, seq_len, c, seed, axis
    'FEATURES=S PRED_LENS="24 720" LAMS="1 8" SIGNS=plus SEEDS=3 AXIS=time bash scripts/ETTh2.sh': [
        *(("informer", "ETTh2", "S", 24, 48, c, 3, "time") for c in (1.0, 8.0)),
        *(("informer", "ETTh2", "S", 720, 336, c, 3, "time") for c in (1.0, 8.0)),
    ],
    "MODEL=informerstack PRED_LENS='24 96' LAMS=0 SEEDS=1 bash scripts/ETTh2.sh --seq_len 99": [
        ("informerstack", "ETTh2", "S", pred_len, 99, 0.0, 1, "feature") for pred_len in (24, 96)
    ],
    "FEATURES=M LAMS=0 SEEDS=1 bash scripts/sweep.sh demo": [
        ("informer", "demo", "M", 24, 96, 0.0, 1, "feature")
    ],
}


@pytest.mark.parametrize("line", NARROWED)
def test_variables_and_arguments_narrow_and_widen_a_script(line, bash):
    answer = bash(f"{line} --amp bf16", JOBS="3", RUNS_PER_GPU="4", RESULTS="here")
    assert "--engine local " in answer.stdout and " --jobs 3 --runs_per_gpu 4 " in answer.stdout
    runs = runs_in(answer.stdout)
    assert NARROWED[line] == [
        (c.model, c.data, c.features, c.pred_len, c.seq_len, c.lip_coef, c.seed, c.lip_axis)
        for c in (run.config for run in runs)
    ]
    assert {(run.config.amp, str(run.options.results)) for run in runs} == {("bf16", "here")}
    assert (answer.returncode, answer.stderr) == (0, "")


def test_a_slurm_job_array_runs_every_run_once(bash):
    cut = f"cd {ROOT} && PRED_LENS=24 bash scripts/"
    shards = [
        [run.name for run in runs_in(bash(f"ARRAY=4 SLURM_ARRAY_TASK_ID={task} {line}").stdout)]
        for task in "1234"
        if (line := f"bash -c '{cut}slurm.sbatch'")
    ]
    whole = [run.name for run in runs_in(bash(f"{cut}ETTh2.sh").stdout)]
    assert sorted(name for names in shards for name in names) == sorted(whole)


def test_help_lists_variables_and_settings_and_mistakes_stop_with_one_line(bash):
    text = bash("bash scripts/ETTh2.sh --help").stdout
    assert text.count("\nETTh2\t") == 10 and "ETTm1\t" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert bash("bash scripts/sweep.sh").stdout.count("\nETTm1\t") == 10
    for line, error in {
        "PRED_LENS='24 96' bash scripts/ETTh2.sh": "96: ETTh2 has no such row in paper/",
        "bash scripts/sweep.sh mine.csv": "mine.csv: no such file ",
    }.items():
        answer = bash(line)
        assert (answer.returncode, answer.stdout) == (2, "")
        assert answer.stderr.startswith(f"error: {error}") and answer.stderr.count("\n") == 1


@pytest.mark.parametrize(("code", "stages"), [(1, 14), (2, 1)])
def test_a_failed_run_does_not_end_the_study_and_a_mistake_does(code, stages, bash):
    ends = f'[ "$2" = exp.sweep ] && exit {code}; [ "$2" != paper.study ] || echo 0 1 2'
    answer = bash("bash scripts/study.sh", ends)
    assert (answer.returncode, answer.stdout.count("== ")) == (code, stages)
    assert bash("bash scripts/study.sh", STAGES="H9").returncode == 2


# What a sweep is started with; a look finds three seeds missing, and the next time nothing more.
LOOKS = f"""mark=$0.$(cksum <<<"$*" | tr -d ' ')
case $2 in exp.sweep) {SHOWN};;
paper.study) [ -e "$mark" ] || {{ echo 8 9 10; touch "$mark"; }};; *) echo off;; esac"""


def test_the_study_runs_its_stages_in_the_order_of_its_plan(bash):
    stages = bash("bash scripts/study.sh --jobs 1", LOOKS).stdout.split("== ")[1:]
    runs = {stage.split()[0]: runs_in(stage) for stage in stages}
    assert [(stage, len(found)) for stage, found in runs.items()] == [
        *(("H4", 24), ("controlM", 8), ("H3", 16), ("axis", 12), ("cells", 48), ("models", 24)),
        *(("H1", 16), ("H2", 16), ("control", 6), ("time", 18), ("dropout0", 8)),
        *(("lambda", 10), ("figure3", 165), ("tables", 360)),
    ]
    every = [run for found in runs.values() for run in found]
    assert {(run.options.test_each_epoch, run.options.weights) for run in every} == {(True, "drop")}
    given = (" --recorded results/study/runs.csv ", " --jobs 1 ")
    assert all(flags in stage for stage in stages for flags in given)
    found = {(run.config.lip_axis, run.config.lip_coef) for run in runs["time"]}
    assert found == {("time", c) for c in (-2.0, 2.0, -32.0)}
    (some,) = bash("bash scripts/study.sh", LOOKS, STAGES="H2", SEEDS="8 9").stdout.split("== ")[1:]
    found = {(c.data, c.features, c.lip_coef, c.seed) for c in (r.config for r in runs_in(some))}
    assert found == {("ETTh2", "M", c, seed) for c in (0.0, -2.0) for seed in (8, 9)}


def test_an_own_file_is_swept_from_any_folder(tmp_path, bash):
    dates = pd.date_range("2020-01-01", periods=400, freq="h")
    frame = pd.DataFrame({"date": dates, "load": range(400), "wind": 1.0})
    frame.to_csv(tmp_path / "my file.csv", index=False)
    line = "bash scripts/sweep.sh 'my file.csv' --target load --seq_len 24 --label_len 12"
    variables = {"LAMS": "2", "SIGNS": "minus", "SEEDS": "0", "RESULTS": str(tmp_path / "results")}
    answer = bash(f"{line} {SMALL}", REAL, PRED_LENS="4", **variables)
    assert answer.returncode == 0, answer
    assert answer.stdout.startswith("features S, seeds 0, loss = MSE - 2 Lip (feature axis")
    (run,) = read_runs(tmp_path / "results").to_dict("records")
    assert (run["status"], run["pred_len"], run["target"]) == ("finished", 4, "load")


def test_the_demo_ends_with_its_answer(tmp_path, bash):
    flags = f"--features S --batch_size 256 --eval_batch_size 256 {SMALL}"
    output = bash(f"bash scripts/demo.sh {flags}", REAL, RESULTS=str(tmp_path / "results")).stdout
    runs = read_runs(tmp_path / "results").sort_values("lip_coef")
    assert list(runs["lip_coef"]) == [-2.0, 0.0, 2.0]
    for name in runs["run"]:
        assert (tmp_path / "results" / name / "prediction.csv").exists()
    table = output.partition("demo: MSE\n")[2]
    scores = {f"{mse:.4f}" for mse in runs["mse"]}
    assert scores <= {*table.replace("*", "").split()} and "3 runs: 3 shown." in table
    assert (tmp_path / "results" / "report.html").exists()
