"""The scripts that people start: what they make of their variables, and real runs of them."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from exp.grid import Run, expand, shard_of
from exp.record import read_runs
from exp.sweep import build_parser
from tests.runs import ROOT

PAPER = pd.read_csv(ROOT / "paper" / "printed" / "informer_settings.csv")
COLUMNS = ["features", "pred_len", "seq_len", "label_len", "e_layers", "d_layers", "factor"]
DATA_SETS = [*PAPER["dataset"].unique(), "ETTm2"]


def script(name: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end, where no benchmark file can be found unless variables say where."""
    kept = {k: v for k, v in os.environ.items() if k not in ("INFORMER_DATA", "RESULTS")}
    return subprocess.run(
        ["bash", f"scripts/{name}", *words],
        cwd=ROOT,
        env={"VIRTUAL_ENV": sys.prefix, **kept, **variables},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def runs_of(tmp_path: Path):
    """Give the runs of a script, as the command line means that it hands to the interpreter."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$2" = pip ] && exit 0\ncat >"$0.stdin"\necho "$@"\n')
    python.chmod(0o755)

    def runs(name: str, *words: str, **variables: str) -> list[Run]:
        path = f"{tmp_path}:{os.environ['PATH']}"
        variables |= {"PATH": path, "VIRTUAL_ENV": str(tmp_path)}
        command = script(name, *words, **variables).stdout.splitlines()[-1].split()
        assert command[:4] == ["-m", "exp.sweep", "--settings", "-"]
        asked, common = build_parser().parse_known_args(command[4:])
        lines = (tmp_path / "python.stdin").read_text().splitlines()
        settings = [(*line.split(), *common) for line in lines if line]
        grid = expand(settings, asked.lams, asked.signs, asked.seeds)
        mine = shard_of([run.name for run in grid], asked.shard)
        return [run for run in grid if run.name in mine]

    return runs


@pytest.mark.parametrize("data", DATA_SETS)
def test_scripts_run_the_papers_settings(data: str, runs_of):
    runs = runs_of(f"{data}.sh")
    configs = [run.config for run in runs]
    rows = PAPER.loc[PAPER["dataset"] == data.replace("ETTm2", "ETTm1"), COLUMNS]
    found = pd.DataFrame([{n: getattr(c, n) for n in COLUMNS} for c in configs]).drop_duplicates()
    assert found.to_dict("records") == rows.to_dict("records")
    assert {(c.data, c.model, c.lip_axis) for c in configs} == {(data, "informer", "feature")}
    assert sorted({c.lip_coef for c in configs}) == [-2.0, 0.0, 2.0]
    assert {c.seed for c in configs} == set(range(3 if data == "WTH" else 5))
    assert len(configs) == len(rows) * 3 * (3 if data == "WTH" else 5)
    assert str(runs[0].options.results) == "results"


def test_variables_and_arguments_narrow_and_widen_a_script(runs_of):
    variables = {"FEATURES": "S", "PRED_LENS": "24 720", "LAMS": "1 8", "SIGNS": "plus"}
    variables |= {"SEEDS": "3", "AXIS": "time", "RESULTS": "here"}
    runs = runs_of("ETTh2.sh", "--amp", "bf16", **variables)
    found = [(r.config.pred_len, r.config.lip_coef, r.config.seed) for r in runs]
    assert found == [(24, 1.0, 3), (24, 8.0, 3), (720, 1.0, 3), (720, 8.0, 3)]
    assert {(r.config.lip_axis, r.config.amp, r.config.features) for r in runs} == {
        ("time", "bf16", "S")
    }
    assert str(runs[0].options.results) == "here"


def test_a_slurm_job_array_runs_every_run_once(runs_of):
    def shard(task: int) -> list[str]:
        numbers = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "4"}
        return [run.name for run in runs_of("slurm.sbatch", PRED_LENS="24", **numbers)]

    shards = [shard(task) for task in (1, 2, 3, 4)]
    whole = [run.name for run in runs_of("ETTh2.sh", PRED_LENS="24")]
    assert sorted(name for names in shards for name in names) == sorted(whole)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_help_lists_every_variable_the_examples_and_the_settings():
    text = script("ETTh2.sh", "--help").stdout
    for name in ("MODEL", "LAMS", "SIGNS", "SEEDS", "FEATURES", "PRED_LENS", "AXIS", "JOBS"):
        assert f"\n  {name}=" in text
    for name in ("RUNS_PER_GPU", "ENGINE", "SHARD", "RESULTS", "INFORMER_DATA"):
        assert f"\n  {name}=" in text
    assert 'SEEDS="0 1 2 3 4 5 6 7" JOBS=2 bash scripts/ETTh2.sh' in text
    assert "0.0625" in text
    assert text.count("\nETTh2\t") == 10 and "ETTm1\t" not in text
    assert script("sweep.sh").stdout.count("\nETTm1\t") == 10
    assert max(map(len, text.splitlines())) <= 100


MISTAKES = {
    "SEED=3": "SEED: unknown variable, did you mean SEEDS?",
    "LAM=5": "LAM: unknown variable, did you mean LAMS?",
    "LAMBDA=5": "LAMBDA: unknown variable, did you mean LAMS?",
    "PREDLENS=24": "PREDLENS: unknown variable, did you mean PRED_LENS?",
    "PRED_LENS=24 96": "PRED_LENS: ETTh2 has no 96, only 24 48 168 336 720",
    "FEATURES=X": "FEATURES: ETTh2 has no X, only M S",
    "MODEL=nothing": "MODEL=nothing: no file paper/printed/nothing_settings.csv",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistaken_variables_stop_with_one_line(mistake: str):
    name, value = mistake.split("=")
    answer = script("ETTh2.sh", **{name: value})
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"error: {MISTAKES[mistake]}")
    assert answer.stderr.count("\n") == 1


def test_a_plan_needs_no_file_writes_nothing_and_is_the_same_twice(tmp_path: Path):
    def plan() -> str:
        return script("ETTh2.sh", "--plan", RESULTS=str(tmp_path / "results")).stdout

    first = plan()
    lines = [" ".join(line.split()) for line in first.splitlines()]
    assert any(line.startswith("informer ETTh2 M 48-48-24 15 0 0 0 15 ") for line in lines)
    assert any(line.startswith("informer ETTh2 S 336-336-720 15 0 0 0 15 ") for line in lines)
    assert "in all 150 0 0 0 150" in lines
    assert plan() == first
    assert not (tmp_path / "results").exists()
    answer = script("ETTh2.sh", PRED_LENS="24", RESULTS=str(tmp_path / "results"))
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: ETTh2.csv: not found")
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_an_own_file_is_swept_from_any_folder(tmp_path: Path):
    dates = pd.date_range("2020-01-01", periods=400, freq="h")
    frame = pd.DataFrame({"date": dates, "load": range(400), "wind": 1.0})
    frame.to_csv(tmp_path / "my file.csv", index=False)
    small = "--seq_len 24 --label_len 12 --d_model 8 --n_heads 2 --d_ff 16 --train_epochs 1"
    words = [*small.split(), "--weights", "drop", "--target", "load"]
    variables = {"LAMS": "2", "SIGNS": "minus", "SEEDS": "0", "PRED_LENS": "4 8", "JOBS": "2"}

    def sweep(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(ROOT / "scripts" / "sweep.sh"), "my file.csv", *words],
            cwd=tmp_path,
            env={**os.environ, **variables, "RESULTS": str(tmp_path / "results")},
            check=False,
            capture_output=True,
            text=True,
        )

    answer = sweep(*words, "--target", "lode")
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1
    assert "lode" in answer.stderr and "did you mean load?" in answer.stderr
    answer = sweep(*words)
    assert answer.returncode == 0, answer.stderr
    runs = read_runs(tmp_path / "results")
    assert sorted(runs["pred_len"]) == [4, 8]
    assert set(runs["status"]) == {"finished"} and set(runs["target"]) == {"load"}


def test_the_demo_ends_with_its_answer(tmp_path: Path):
    words = "--d_model 8 --n_heads 2 --d_ff 16 --batch_size 256 --eval_batch_size 256 --threads 1"
    words += " --train_epochs 1"
    output = script("demo.sh", *words.split(), RESULTS=str(tmp_path)).stdout
    runs = read_runs(tmp_path).sort_values("lip_coef")
    assert list(runs["lip_coef"]) == [-2.0, 0.0, 2.0]
    for run in runs.to_dict("records"):
        assert f"{run['mse']:.4f}" in output  # in the run's own report
        assert f"\n{tmp_path}/{run['run']}\n" in output
        assert (tmp_path / run["run"] / "prediction.csv").exists()
    answer = " ".join(output.split("\n\n")[-1].split())
    assert answer.startswith("demo M 24 (48/48)")
    assert f"at best {runs['mse'].min():.4f}" in answer
    assert (tmp_path / "report.html").exists()


def test_the_study_runs_the_papers_cells(tmp_path: Path):
    stages = {"STAGES": "H2 time", "RESULTS": str(tmp_path / "results")}
    output = script("study.sh", "--plan", **stages).stdout
    lines = [" ".join(line.split()) for line in output.splitlines()]
    cells = [line for line in lines if line.startswith(("==", "informer", "LipReg along"))]
    along = "LipReg along the {} axis (the released code's is feature, the paper's time)".format
    expected = [
        *("== H2", along("feature"), "informer ETTh2 M 48-48-24 16"),
        *("== time", along("time"), "informer ETTh2 S 48-48-24 12"),
        *(along("time"), "informer ETTh2 S 48-48-24 6"),
    ]
    assert len(cells) == len(expected)
    assert all(line.startswith(begin) for line, begin in zip(cells, expected, strict=True))
