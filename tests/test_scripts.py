"""The scripts that people start: what they make of their variables, and real runs of them."""

import itertools
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

PAPER = pd.read_csv(ROOT / "paper" / "published" / "informer_settings.csv")
COLUMNS = ["features", "pred_len", "seq_len", "label_len", "e_layers", "d_layers", "factor"]
SCRIPTS = [("informer", data) for data in (*PAPER["dataset"].unique(), "ETTm2")]
SCRIPTS += [("autoformer", "weather"), ("autoformer", "ETTh2"), ("transformer", "ETTh2")]
SMALL = "--d_model 8 --n_heads 2 --d_ff 16 --train_epochs 1 --threads 1"
REAL, SHOWN = f'exec {sys.executable} "$@"', 'printf "%q " "$@"; echo; cat'


def bash(folder: Path, line: str, python: str, **variables: str) -> subprocess.CompletedProcess:
    """Run a command line of bash where `python`, but for pip, does something, and no data is."""
    command = folder / "python"
    command.write_text(f'#!/usr/bin/env bash\n[ "$2" = pip ] || {{ {python}; }}\n')
    command.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if k not in ("INFORMER_DATA", "RESULTS")}
    kept |= {"PATH": f"{folder}:{os.environ['PATH']}", "VIRTUAL_ENV": str(folder)}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env={**kept, **variables},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def script(tmp_path: Path):
    """Run a script to its end, but show the command that it hands to the interpreter."""

    def run(words: str, **variables: str) -> subprocess.CompletedProcess:
        return bash(tmp_path, f"cd {ROOT} && bash scripts/{words}", SHOWN, **variables)

    return run


def runs_in(output: str) -> list[Run]:
    """Give the runs of the sweeps that a script would have started."""
    runs = []
    for call in output.split("-m exp.sweep --settings - ")[1:]:
        command, *lines = call.splitlines()
        asked, common = build_parser().parse_known_args(shlex.split(command))
        settings = [(*line.split(), *common) for line in lines if line.startswith("--features")]
        grid = expand(settings, asked.lams, asked.signs, asked.seeds)
        mine = {run.name for run in shard_of(grid, asked.shard)}
        runs += [run for run in grid if run.name in mine]
    return runs


@pytest.mark.parametrize(("model", "data"), SCRIPTS)
def test_scripts_run_the_papers_settings(model, data, script):
    chosen = {"MODEL": model} if (model, data) in SCRIPTS[-2:] else {}  # the others by default
    runs = runs_in(script(f"{data}.sh", **chosen).stdout)
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


def test_variables_and_arguments_narrow_and_widen_a_script(script):
    variables = {"FEATURES": "S", "PRED_LENS": "24 720", "LAMS": "1 8", "SIGNS": "plus"}
    variables |= {"SEEDS": "3", "AXIS": "time", "RESULTS": "here"}
    variables |= {"JOBS": "3", "RUNS_PER_GPU": "auto"}
    output = script("ETTh2.sh --amp bf16", **variables).stdout
    assert "--engine local " in output and " --jobs 3 --runs_per_gpu auto " in output
    runs = runs_in(output)
    found = [(r.config.pred_len, r.config.lip_coef, r.config.seed) for r in runs]
    assert found == [(24, 1.0, 3), (24, 8.0, 3), (720, 1.0, 3), (720, 8.0, 3)]
    shared = {(r.config.lip_axis, r.config.amp, r.config.features) for r in runs}
    assert shared == {("time", "bf16", "S")}
    assert str(runs[0].options.results) == "here"


def test_a_slurm_job_array_runs_every_run_once(script):
    shards = []
    for task in "1234":
        array = script("slurm.sbatch", PRED_LENS="24", SLURM_ARRAY_TASK_ID=task, ARRAY="4")
        shards.append([run.name for run in runs_in(array.stdout)])
    whole = [run.name for run in runs_in(script("ETTh2.sh", PRED_LENS="24").stdout)]
    assert sorted(name for names in shards for name in names) == sorted(whole)


def test_help_lists_every_variable_the_examples_and_the_settings(script):
    text = script("ETTh2.sh --help").stdout
    names = "MODEL LAMS SIGNS SEEDS FEATURES PRED_LENS AXIS JOBS RUNS_PER_GPU ENGINE SHARD RESULTS"
    for name in [*names.split(), "INFORMER_DATA"]:
        assert f"\n  {name}=" in text
    assert 'SEEDS="0 1 2 3 4 5 6 7" JOBS=2 bash scripts/ETTh2.sh' in text and "0.0625" in text
    assert text.count("\nETTh2\t") == 10 and "ETTm1\t" not in text
    assert script("sweep.sh").stdout.count("\nETTm1\t") == 10
    assert max(map(len, text.splitlines())) <= 100


MISTAKES = {
    "PRED_LENS=24 96": "FEATURES=M PRED_LENS=96: ETTh2 has only M S; 24 48 168 336 720",
    "FEATURES=X": "FEATURES=X PRED_LENS=24: ETTh2 has only M S; 24 48 168 336 720",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistaken_variables_stop_with_one_line(mistake, script):
    name, value = mistake.split("=")
    answer = script("ETTh2.sh", **{name: value})
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"error: {MISTAKES[mistake]}")
    assert answer.stderr.count("\n") == 1
    answer = script("sweep.sh mine.csv")
    assert answer.stderr.startswith("error: mine.csv: no such file ") and not answer.stdout


@pytest.mark.parametrize(("name", "meant"), [("SEED", "SEEDS"), ("LAMBDA", "LAMS")])
def test_a_variable_that_is_not_read_is_named_and_stops_nothing(name, meant, script):
    answer = script("ETTh2.sh", **{name: "3"})
    assert answer.stderr == f"note: the variable {name} is not read; did you mean {meant}?\n"
    assert answer.returncode == 0 and len(runs_in(answer.stdout)) == 150


def test_models_and_data_without_a_print_run_at_the_users_settings(script):
    lengths = "--seq_len 96 --label_len 24"
    runs = runs_in(script(f"ETTh2.sh {lengths}", MODEL="informerstack", PRED_LENS="24 96").stdout)
    runs += runs_in(script(f"sweep.sh demo {lengths}", FEATURES="M").stdout)
    found = {
        (c.model, c.data, c.features, c.seq_len, c.label_len, c.pred_len)
        for c in (run.config for run in runs)
    }
    stack = {("informerstack", "ETTh2", "S", 96, 24, pred_len) for pred_len in (24, 96)}
    assert found == {*stack, ("informer", "demo", "M", 96, 24, 24)} and len(runs) == 45


ENDS = '[ "$2" = exp.sweep ] && exit {code}; [ "$2" != paper.study ] || echo 0 1 2'


def test_a_failed_run_does_not_end_the_study(tmp_path):
    answer = bash(tmp_path, f"bash {ROOT}/scripts/study.sh", ENDS.format(code=1))
    assert (answer.returncode, answer.stdout.count("== ")) == (1, 14), answer
    answer = bash(tmp_path, f"bash {ROOT}/scripts/study.sh", ENDS.format(code=2))
    assert (answer.returncode, answer.stdout.count("== ")) == (2, 1)


# What a sweep is started with; a look finds three seeds missing, and the next time nothing more.
LOOKS = f"""mark=$0.$(cksum <<<"$*" | tr -d ' ')
case $2 in exp.sweep) {SHOWN};;
paper.study) [ -e "$mark" ] || {{ echo 8 9 10; touch "$mark"; }};; *) echo off;; esac"""


def test_the_study_runs_its_stages_in_the_order_of_its_plan(tmp_path):
    study = f"cd {ROOT} && bash scripts/study.sh"
    stages = bash(tmp_path, f"{study} --jobs 1", LOOKS).stdout.split("== ")[1:]
    runs = {stage.split()[0]: runs_in(stage) for stage in stages}
    assert {stage: len(found) for stage, found in runs.items()} == {
        **{"H4": 24, "controlM": 8, "H3": 16, "axis": 12, "cells": 48, "models": 24},
        **{"H1": 16, "H2": 16, "control": 6, "time": 18, "dropout0": 8},
        **{"lambda": 10, "figure3": 165, "tables": 360},
    }
    order = ["H4", "controlM", "H3", "axis", "cells", "models", "H1", "H2"]
    assert list(runs)[:8] == order and list(runs)[-1] == "tables"
    every = [run for found in runs.values() for run in found]
    assert {(run.options.test_each_epoch, run.options.weights) for run in every} == {(True, "drop")}
    given = (" --recorded results/study/runs.csv ", " --jobs 1 ")
    assert all(words in stage for stage in stages for words in given)
    named = [(cell(run), run.config.lip_coef, run.config.seed) for run in runs["H4"]]
    arms = itertools.product(range(8, 16), (0.0, -2.0, 2.0))  # those of a seed side by side
    assert named == [(("ETTh2", "S", 24, "feature"), c, seed) for seed, c in arms]
    assert {run.config.amp for run in every} == {"off"}
    for stage, coefs in {"time": (-2.0, 2.0, -32.0), "axis": (-2.0, -32.0)}.items():
        found = {(cell(run)[3], run.config.lip_coef) for run in runs[stage]}
        assert found == {("time", c) for c in coefs}
    known = PAPER.loc[PAPER["dataset"] != "ECL", ["dataset", "features", "pred_len"]]
    tables = {(*cells, "feature") for cells in known.itertuples(index=False)}
    assert {cell(run) for run in runs["tables"]} == tables
    some = bash(tmp_path, study, LOOKS, STAGES="H2 time", SEEDS="8 9").stdout.split("== ")[1:]
    assert [stage.split()[0] for stage in some] == ["H2", "time"]
    assert {(*cell(run), run.config.lip_coef, run.config.seed) for run in runs_in(some[0])} == {
        ("ETTh2", "M", 24, "feature", c, seed) for c in (0.0, -2.0) for seed in (8, 9)
    }


def cell(run: Run) -> tuple[str, str, int, str]:
    c = run.config
    return c.data, c.features, c.pred_len, c.lip_axis


def test_an_own_file_is_swept_from_any_folder_even_if_the_reader_leaves(tmp_path):
    dates = pd.date_range("2020-01-01", periods=400, freq="h")
    frame = pd.DataFrame({"date": dates, "load": range(400), "wind": 1.0})
    frame.to_csv(tmp_path / "my file.csv", index=False)
    line = f"bash {ROOT}/scripts/sweep.sh 'my file.csv' --target load --seq_len 24 --label_len 12"
    variables = {"LAMS": "2", "SIGNS": "minus", "SEEDS": "0", "RESULTS": str(tmp_path / "results")}
    (tmp_path / "elsewhere" / "my file.csv").mkdir(parents=True)
    variables["CDPATH"] = str(tmp_path / "elsewhere")
    shown = bash(tmp_path, line, SHOWN, PRED_LENS="4 8", FEATURES="S MS", **variables)
    found = [(r.config.features, r.config.pred_len, r.config.target) for r in runs_in(shown.stdout)]
    assert found == [(f, p, "load") for f in ("S", "MS") for p in (4, 8)]
    piped = f"{line} {SMALL} 2>&1 | head -n 1"
    answer = bash(tmp_path, piped, REAL, PRED_LENS="4", **variables)
    assert answer.returncode == 0, answer
    assert answer.stdout.startswith("informer on my file load: features S, LipReg along the f")
    assert answer.stdout.count("\n") == 1
    (run,) = read_runs(tmp_path / "results").to_dict("records")
    assert (run["status"], run["pred_len"], run["target"]) == ("finished", 4, "load")


def test_the_demo_ends_with_its_answer(tmp_path):
    words = f"--features S --batch_size 256 --eval_batch_size 256 {SMALL}"
    line = f"bash {ROOT}/scripts/demo.sh {words}"
    output = bash(tmp_path, line, REAL, RESULTS=str(tmp_path / "results")).stdout
    runs = read_runs(tmp_path / "results").sort_values("lip_coef")
    assert list(runs["lip_coef"]) == [-2.0, 0.0, 2.0]
    for run in runs.to_dict("records"):
        assert f"{run['mse']:.4f}" in output  # in the run's own report
        assert f"\n{tmp_path}/results/{run['run']}\n" in output
        assert (tmp_path / "results" / run["run"] / "prediction.csv").exists()
    table = output.partition("demo: MSE\n")[2]
    scores = {f"{mse:.4f}" for mse in runs["mse"]}
    assert scores <= {*table.replace("*", "").split()} and "3 runs: 3 shown." in table
    assert (tmp_path / "results" / "report.html").exists()
