"""The command line: defaults, the released form, and every mistake in one line."""

import operator
from pathlib import Path
from unittest import mock

import pytest
import torch

from exp.config import Config, build_parser, parse
from exp.exp_basic import lack, set_precision
from main_informer import main
from tests.runs import ROOT, tiny

DEMO = ["--model", "informer", "--data", "demo"]


def test_defaults_and_booleans_are_the_released_ones():
    config, options = parse(["--model", "informer", "--data", "ETTh1"])
    released = {
        "features": "M", "target": "OT", "freq": "h", "seq_len": 96, "label_len": 48,
        "pred_len": 24, "d_model": 512, "n_heads": 8, "e_layers": 2, "d_layers": 1,
        "s_layers": (3, 2, 1), "d_ff": 2048, "factor": 5, "padding": 0, "distil": True,
        "dropout": 0.05, "attn": "prob", "embed": "timeF", "activation": "gelu",
        "output_attention": False, "mix": True, "cols": None, "train_epochs": 6,
        "batch_size": 32, "patience": 3, "learning_rate": 1e-4, "loss": "mse",
        "lradj": "type1", "lip_coef": 0.0, "lip_axis": "time", "lip_norm": "max", "amp": "off",
    }  # fmt: skip
    assert {name: getattr(config, name) for name in released} == released
    assert (options.itr, options.des) == (2, "test")
    assert (options.root_path, options.data_path) == (Path("./data/ETT/"), "ETTh1.csv")
    assert options.use_gpu is None and not options.do_predict and not options.inverse
    for word, value in {"False": False, "true": True, "0": False, "yes": True}.items():
        assert parse([*DEMO, "--use_gpu", word])[1].use_gpu is value
    parse([*DEMO, *["--enc_in", "7", "--use_multi_gpu", "--devices", "0,1", "--num_workers", "0"]])
    config, options = parse([*DEMO, "--distil", "--mix", "--inverse", "--use_amp", "--des", "Exp"])
    assert (config.distil, config.mix, config.amp) == (False, False, "bf16")
    assert options.inverse and options.des == "Exp"


@pytest.mark.parametrize(
    ("words", "coefficient", "text"),
    [
        ("--lam 2", -2.0, "MSE - 2 Lip (time axis, max-normalised)"),
        ("--lam 2 --lip_sign plus", 2.0, "MSE + 2 Lip (time axis, max-normalised)"),
        ("--lam -2 --lip_sign plus", -2.0, "MSE - 2 Lip (time axis, max-normalised)"),
        ("--lam 0.5 --lip_norm none", -0.5, "MSE - 0.5 Lip (time axis, not normalised)"),
        ("--lam 0 --lip_sign minus", 0.0, "MSE (no regularizer)"),
    ],
)
def test_lambda_and_sign_are_one_coefficient(words, coefficient, text):
    config, _ = parse([*DEMO, *words.split()])
    assert config.lip_coef == coefficient and str(config.lip_coef) != "-0.0"
    assert config.loss_text == f"loss = {text}"


def test_identity_is_intent():
    def name(words: str) -> str:
        return parse([*DEMO, *words.split()])[0].run_name("0" * 64)

    same = ["--results a", "--threads 1", "--des x", "--device cpu", "--itr 5", "--s_layers 2,1"]
    assert {name(words) for words in same} == {name("")}
    assert name("--lam 2 --lip_sign plus") == name("--lam -2")
    assert name("--lam 0 --lip_axis feature") == name("--lam -0 --lip_sign plus")
    other = ["--lam 1", "--lam 1 --lip_axis feature", "--lam 1 --lip_norm range", "--seed 1",
             "--learning_rate 2e-4", "--batch_size 16", "--eval_batch_size 64", "--use_amp",
             "--features S", "--mix", "--distil"]  # fmt: skip
    assert len({name(words) for words in [*other, ""]}) == len(other) + 1
    assert parse(DEMO)[0].run_name("1" * 64) != name("")
    assert name("--seed 3").rsplit("-", 1)[0].endswith("s3")


def test_a_models_own_defaults_hold_and_flags_win():
    def settings(words: str) -> Config:
        return parse(["--model", "autoformer", "--data", "ETTh2", *words.split()])[0]

    one, other = settings(""), settings("--train_epochs 2 --factor 1 --moving_avg 3 --seq_len 48")
    names = operator.attrgetter("train_epochs", "factor", "moving_avg", "seq_len", "label_len")
    assert names(one) == (10, 3, 25, 96, 48) and names(other) == (2, 1, 3, 48, 48)
    runs = [settings(w).run_name("") for w in ("", "--factor 1", "--factor 1 --attn full")]
    assert runs[0] != runs[1] == runs[2]  # its attention is its own


def test_precisions_that_a_device_lacks(monkeypatch):
    for capability, refused in (((7, 5), True), ((8, 0), False)):
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda _, found=capability: found)
        assert bool(lack("bf16", torch.device("cuda", 1))) == refused
        assert not lack("off", torch.device("cuda", 1))
    for amp in ("tf32", "off"):
        set_precision(amp, torch.device("cuda", 0))
        backends = torch.backends.cuda.matmul, torch.backends.cudnn
        assert [backend.allow_tf32 for backend in backends] == [amp == "tf32"] * 2


@pytest.mark.parametrize("reason", ["CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED"])
def test_a_full_gpu_is_one_line(reason, tmp_path, capsys, monkeypatch):
    step = mock.Mock(side_effect=RuntimeError(f"CUDA error: {reason} when calling"))
    monkeypatch.setattr("exp.exp_informer.Exp_Informer.train_step", step)
    assert tiny(tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("failed: the GPU's memory is full; lower --batch_size")


def test_help_names_every_flag_and_the_models_own_defaults(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--help"])
    assert leaving.value.code == 0
    text = capsys.readouterr().out
    assert all(one.option_strings[-1] in text and one.help for one in build_parser()._actions)
    assert "(default: 96)" in text and "regularizer:" in text
    assert "\ntransformer, assumed: --label_len 48 --e_layers 2" in text


MISTAKES = {  # one of each kind of check
    "--label_len 30 --seq_len 24": "--label_len 30: must not exceed --seq_len 24",
    "--d_model 16 --n_heads 3": "--n_heads 3: must divide --d_model 16",
    "--seq_len ten": "--seq_len: invalid int value: 'ten'",
    "--seq_len 6000": "--seq_len 6000: must be from 2 to 5000",
    "--label_len 12 --pred_len 4990": "--pred_len 4990: with --label_len over the position table's",
    "--s_layers 3,0": "--s_layers 0: must be from 1 to 64",
    "--model informerstack --s_layers 1,1,1,1,1": "--s_layers (1, 1, 1, 1, 1): the last encoder",
    "--seed 2147483647 --itr 2": "--seed 2147483648: must be from 0 to 2147483647",
    "--lam nan": "--lam: nan: must be a finite number",
    "--dropout 1": "--dropout 1.0: must be at least 0 and below 1",
    "--data ETTh3": "--data ETTh3: unknown (did you mean ETTh2?); one of ETTh1, ETTh2, ETTm1, "
    "ETTm2, WTH, weather, ECL, demo, custom",
    "--model autoformer --moving_avg 24": "--moving_avg 24: must be odd",
    "--lamda 2": "--lamda: unknown (did you mean --lam?); --help lists all flags",
    "--amp bf16": "--amp bf16: this processor has no bf16 kernels; use --amp off",
    "--use_gpu maybe": "--use_gpu: maybe: must be True or False",
    "--gpu 1": "cuda:1: this machine has 0 CUDA devices; use --device cpu",
    "--device cpu:7": "--device cpu:7: not supported; use auto, cpu, cuda or cuda:N",
    "--embed fixed --freq d": "--freq d: --embed fixed knows hours (h) and minutes (t)",
    "--data_path gone.csv": f"{ROOT / 'tests' / 'gone.csv'}: ",
    "--batch_size 9999": "--batch_size 9999: part.csv has 615 training windows; lower it",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_each_mistake_is_one_line_and_writes_nothing(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("exp.exp_basic.has_bf16_kernels", lambda: False)
    assert tiny(tmp_path / "results", *words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {MISTAKES[words]}")
    assert list(tmp_path.iterdir()) == []
