"""One run from flags to record: lock, resume or skip, train, test, write."""

import dataclasses
import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from exp.baselines import NAMES, baseline_scores, baselines
from exp.checkpoint import load_into, load_weights, remove_states, serialise
from exp.config import Config, Options, read_beside
from exp.exp_informer import Exp_Informer
from exp.forecast import Prediction, write_samples
from exp.record import Record, RunFailed, find_record, read_history, set_aside
from utils import environment
from utils.files import (
    UserError,
    discard_temporaries,
    make_folder,
    read_json,
    sha256_of,
    write_atomic,
    write_npz,
)
from utils.interrupt import Stop


def run_all(config: Config, options: Options, stop: Stop) -> None:
    """Run the repetitions, with seeds seed, seed + 1, ..., and print their mean.

    One that fails does not end the others; a RunFailed lists those at the end.
    """
    if options.load:
        test_loaded(Exp_Informer(config, options, stop), options.load)
        return
    scores, failures, seeds = [], [], range(config.seed, config.seed + options.itr)
    data = config.data if config.data != "custom" else f"{options.data_path} {config.target}"
    about = f"{config.model} on {data}: features {config.features}, {config.loss_text}"
    print(f"{about}, seeds {' '.join(map(str, seeds))}", flush=True)
    for seed in seeds:
        stop.check()
        try:
            metrics = run_one(dataclasses.replace(config, seed=seed), options, stop)
            scores.append([metrics["all"]["mse"], metrics["all"]["mae"]])
        except RunFailed as failure:
            failures.append(str(failure))
    if len(scores) > 1:
        mean, sd = np.mean(scores, axis=0), np.std(scores, axis=0, ddof=1)
        print(
            f"{len(scores)} repetitions: MSE {mean[0]:.4f} ± {sd[0]:.4f}, "
            f"MAE {mean[1]:.4f} ± {sd[1]:.4f} (mean ± sd, all test windows)"
        )
    if failures:
        raise RunFailed("\n        ".join(failures))


def run_one(config: Config, options: Options, stop: Stop) -> dict[str, Any]:
    """Do one run, or what is left of it, and return its metrics.

    RunFailed if the loss stopped being finite, now or when the run was last tried.
    """
    exp = Exp_Informer(config, options, stop)
    record = find_record(options.results, config, exp.data.sha256, options.data_path)
    name = record.folder.name
    checkpoints = options.checkpoints / name if options.checkpoints else record.folder
    with record.hold(stop if options.wait else None):
        if options.force and record.ended:  # what was cut off is continued
            for folder in dict.fromkeys((checkpoints, record.folder)):  # the record last
                set_aside(folder)
        metrics = record.metrics()
        if metrics is None:
            if options.tensorboard:
                tensorboard = importlib.import_module("torch.utils.tensorboard")
                exp.writer = tensorboard.SummaryWriter(str(record.folder / "tensorboard"))
            metrics = _train_and_test(exp, record, checkpoints)
        elif metrics["status"] == "failed":
            raise RunFailed(f"{name}: failed before: {metrics['error']}; --force tries again")
        else:
            print(f"{name}: done before, skipped (--force repeats it)")
            _add_missing(exp, record.folder, checkpoints, metrics["weights_sha256"])
        remove_states(checkpoints)
        print_scores(metrics, exp)
    return metrics


def _train_and_test(exp: Exp_Informer, record: Record, checkpoints: Path) -> dict[str, Any]:
    """Train from the last checkpoint on, test, and write everything."""
    name, options = record.folder.name, exp.options
    make_folder(checkpoints)
    for folder in {record.folder, checkpoints}:
        discard_temporaries(folder)
    print(f"{name}: {exp.config.loss_text}", flush=True)
    about = {"data_file": str(exp.data.path), "checkpoints": str(checkpoints), "des": options.des}
    record.start(environment.environment(exp.device) | about, exp.data.scaling())
    try:
        state = exp.train(record, checkpoints)
        begun = time.monotonic()
        scores = test(exp, record.folder)
    except RunFailed as failure:
        remove_states(checkpoints)
        record.finish("failed", {"error": str(failure)})
        raise RunFailed(f"{name}: {failure}") from failure
    if options.do_predict:
        _predict(exp, record.folder)
    weights = serialise(exp.model.state_dict())
    kept = options.weights == "keep"
    if kept:
        write_atomic(checkpoints / "weights.pt", weights)
    metrics = {
        **scores,
        "best_epoch": state.progress.best_epoch,
        "epochs": state.progress.epoch,
        "val_mse": state.progress.best_val,
        "wall_seconds": state.progress.seconds + time.monotonic() - begun,
        "step_seconds": state.progress.seconds / state.position,
        "peak_memory_mb": environment.peak_memory_mb(exp.device),
        "weights_sha256": sha256_of(weights) if kept else None,
    }
    record.finish("finished", metrics)
    return metrics


def test(exp: Exp_Informer, folder: Path | None = None) -> dict[str, Any]:
    """Test a run beside its baselines; return the scores, for metrics.json.

    A folder gets the errors by window, samples with their plot, and --save_forecasts.
    """
    data, config, everything = exp.data, exp.config, exp.options.save_forecasts
    metrics, forecasts = exp.test(all_columns=everything)
    methods = baselines(data, config)
    if folder:
        write_npz(folder / "window_errors.npz", {"mse": forecasts.window_mse.numpy()})
        write_samples(folder, data, config, forecasts, methods["ridge"])
        if everything:
            write_npz(folder / "forecasts.npz", _all_forecasts(exp, forecasts.pred))
    return {**metrics, "baselines": baseline_scores(data, config, methods)}


def _all_forecasts(exp: Exp_Informer, pred: Tensor) -> dict[str, Callable[[], np.ndarray]]:
    """Give what makes forecasts.npz of scaled test forecasts [windows, pred_len, C].

    That is dates [windows, pred_len], pred and true in original units, and the columns' names.
    """
    data, first = exp.data, exp.data.test.start + exp.config.seq_len
    rows = first + np.arange(len(pred))[:, None] + np.arange(exp.config.pred_len)
    true = data.test.values[:, -pred.shape[2] :].cpu().numpy()
    return {
        "columns": lambda: np.array(data.columns[-pred.shape[2] :]),
        "dates": lambda: data.dates.to_numpy()[rows],
        "pred": lambda: data.scaler.inverse(pred.numpy()),
        "true": lambda: data.scaler.inverse(true)[rows],
    }


def missing_outputs(folder: Path, options: Options) -> list[str]:
    """List the flags given now that a finished run was made without; only --force adds these."""
    lacks = {
        "save_forecasts": lambda: not any(folder.glob("forecasts.[cn]*")),
        "test_each_epoch": lambda: "test_mse" not in read_history(folder),
        "tensorboard": lambda: not (folder / "tensorboard").exists(),
    }
    return [flag for flag, lacking in lacks.items() if getattr(options, flag) and lacking()]


def _add_missing(exp: Exp_Informer, folder: Path, checkpoints: Path, sha256: str | None) -> None:
    """Write what a finished run can still give, a forecast; name what it lacks for good."""
    weights = checkpoints / "weights.pt"
    if not weights.exists():  # --checkpoints named another folder then
        about = read_json(folder / "config.json")["environment"]
        weights = Path(about.get("checkpoints", folder)) / "weights.pt"
    for flag in missing_outputs(folder, exp.options):
        print(f"note: --{flag} was not given then; it takes --force now")
    if exp.options.do_predict and not (folder / "prediction.png").exists():
        if sha256 is None or not weights.exists():
            raise UserError(f"{weights}: was not kept, or is gone; run anew with --force")
        load_into(exp.model, load_weights(weights, sha256), weights)
        _predict(exp, folder)


def _predict(exp: Exp_Informer, folder: Path) -> None:
    for path in Prediction(exp).write(folder):
        print(f"wrote {path}")


def test_loaded(exp: Exp_Informer, path: Path) -> None:
    """Test weights from a file: the numbers are printed, and written nowhere."""
    options, data = exp.options, exp.data
    load_into(exp.model, load_weights(path), path)
    scale = "its record's scale"
    if "scaler" not in read_beside(path):
        scale = f"the scale of the training rows of {data.path}"
        print(f"note: no record beside {path}: its columns are believed to be {data.columns}")
    print(f"{path}: no training; {scale}; nothing is recorded")
    print_scores(test(exp), exp)
    if options.do_predict:
        weights = sha256_of(path.read_bytes())[:8]
        name = f"loaded-{path.stem}-{weights}-{data.path.stem}-{data.sha256[:8]}_s{exp.config.seed}"
        make_folder(options.results / name)
        _predict(exp, options.results / name)


def print_scores(metrics: dict[str, Any], exp: Exp_Informer) -> None:
    """Print a run's scores: scaled, beside the baselines', then in original units by column."""
    whole, part, rows = metrics["all"], metrics["truncated"] or {}, []
    for name, scores in {exp.config.model: metrics, **metrics["baselines"]}.items():
        if scores:
            sets = [scores["all"], scores["truncated"] or {}]
            numbers = [one.get(metric) for one in sets for metric in ("mse", "mae")]
            rows.append([NAMES.get(name, name), *numbers])
    print(
        f"test on scaled data, as the paper: {whole['windows']} windows; drop_last: the first "
        f"{part.get('windows', 0)}, which the released code scores"
    )
    heads = ["", "MSE", "MAE", "MSE drop_last", "MAE drop_last"]
    print(tabulate(rows, heads, floatfmt=".4f", missingval="-"))
    errors = metrics.get("by_column")
    if not errors:
        return  # recorded before errors were kept by column
    data, width = exp.data, exp.data.out_width
    names, std = data.columns[-width:], data.scaler.std[-width:]
    table = [names, np.multiply(errors["mae"], std), np.sqrt(errors["mse"]) * std]
    shown = list(zip(*table, strict=True))[0 if exp.options.inverse else -1 :]
    print("test in original units:")
    print(tabulate(shown, ["", "MAE", "RMSE"], floatfmt=".5g"))


def dry_run(config: Config, options: Options) -> None:
    """Check flags, data and model, take the loss of one batch, and print what a run would do."""
    exp = Exp_Informer(config, options)
    if options.load:
        load_into(exp.model, load_weights(options.load), options.load)
        print(f"{options.load}: fits the settings; dry run: nothing was tested or written")
        return
    data, steps = exp.data, len(exp.data.train) // config.batch_size
    loss, *_ = exp.loss(data.train.batch(torch.arange(config.batch_size, device=exp.device)))
    if not loss.isfinite():
        raise UserError(f"the first loss is {loss.item():g}; check data and --lam")
    record = find_record(options.results, config, data.sha256, options.data_path)
    parameters = sum(p.numel() for p in exp.model.parameters() if p.requires_grad)
    print(
        f"data: {data.path}, {data.x_width} columns in, {data.out_width} out\n"
        f"windows: train {len(data.train)}, val {len(data.val)}, test {len(data.test)}\n"
        f"model: {config.model}, {parameters:,} parameters, {exp.device}, amp {config.amp}\n"
        f"{config.loss_text}\n"
        f"seeds: {', '.join(str(config.seed + i) for i in range(options.itr))}\n"
        f"training: at most {config.train_epochs} epochs of {steps} steps a seed; how long that "
        f"takes: python -m exp.sweep --plan\n"
        f"folder: {record.folder}\ndry run: nothing was written"
    )
