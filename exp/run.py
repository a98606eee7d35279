"""One run from flags to record: lock, resume or skip, train, test, write."""

import dataclasses
import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate
from torch import Tensor

from exp.baselines import NAMES, baseline_scores, baselines
from exp.checkpoint import remove_states, serialise
from exp.config import Config, Options
from exp.exp_informer import Exp_Informer
from exp.forecast import Prediction, write_samples
from exp.record import Record, RunFailed, find_record, set_aside
from utils import environment
from utils.files import discard_temporaries, sha256_of, write_atomic, write_npz
from utils.interrupt import Stop


def run_all(config: Config, options: Options, stop: Stop) -> None:
    """Run the repetitions, with seeds seed, seed + 1, ..., and print their mean.

    One that fails does not end the others; a RunFailed lists those at the end.
    """
    scores, failures, seeds = [], [], range(config.seed, config.seed + options.itr)
    data = config.data if config.data != "custom" else f"{options.data_path} {config.target}"
    about = f"{config.model} on {data}: features {config.features}, {config.loss_text}"
    print(f"{about}, seeds {' '.join(map(str, seeds))}")
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
    with record.hold(stop if options.wait else None):
        if options.force and record.ended:  # what was cut off is continued
            set_aside(record.folder)
        metrics = record.metrics()
        if metrics is None:
            if options.tensorboard:
                tensorboard = importlib.import_module("torch.utils.tensorboard")
                exp.writer = tensorboard.SummaryWriter(str(record.folder / "tensorboard"))
            metrics = _train_and_test(exp, record)
        elif metrics["status"] == "failed":
            raise RunFailed(f"{name}: failed before: {metrics['error']}; --force tries again")
        else:
            print(f"{name}: done before, skipped (--force repeats it)")
        remove_states(record.folder)
        print_scores(metrics, exp)
    return metrics


def _train_and_test(exp: Exp_Informer, record: Record) -> dict[str, Any]:
    """Train from the last checkpoint on, test, and write everything; metrics.json comes last."""
    name, folder, options = record.folder.name, record.folder, exp.options
    discard_temporaries(folder)
    print(f"{name}: {exp.config.loss_text}")
    about = {"data_file": str(exp.data.path), "des": options.des}
    record.start(environment.environment(exp.device) | about, exp.data.scaling())
    try:
        state = exp.train(record)
        begun = time.monotonic()
        scores = test(exp, folder)
    except RunFailed as failure:
        remove_states(folder)
        record.finish("failed", {"error": str(failure)})
        raise RunFailed(f"{name}: {failure}") from failure
    if options.do_predict:
        for path in Prediction(exp).write(folder):
            print(f"wrote {path}")
    weights = serialise(exp.model.state_dict())
    kept = options.weights == "keep"
    if kept:
        write_atomic(folder / "weights.pt", weights)
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


def test(exp: Exp_Informer, folder: Path) -> dict[str, Any]:
    """Test a run beside its baselines; return the scores, for metrics.json.

    The folder gets the errors by window, plots of test windows, and --save_forecasts.
    """
    data, config, everything = exp.data, exp.config, exp.options.save_forecasts
    metrics, forecasts = exp.test(all_columns=everything)
    methods = baselines(data, config)
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


def print_scores(metrics: dict[str, Any], exp: Exp_Informer) -> None:
    """Print a run's scores: scaled, beside the baselines', then in original units by column."""
    rows = []
    for name, scores in {exp.config.model: metrics, **metrics["baselines"]}.items():
        if scores:
            sets = [scores["all"], scores["truncated"] or {}]
            numbers = [one.get(metric) for one in sets for metric in ("mse", "mae")]
            rows.append([NAMES.get(name, name), *numbers])
    scored = (metrics["truncated"] or {}).get("windows", 0)
    print(
        f"test on scaled data, as the paper: {metrics['all']['windows']} windows; drop_last: the "
        f"first {scored}, which the released code scores"
    )
    heads = ["", "MSE", "MAE", "MSE drop_last", "MAE drop_last"]
    print(tabulate(rows, heads, floatfmt=".4f", missingval="-"))
    if not (errors := metrics.get("by_column")):
        return  # recorded before errors were kept by column
    width = exp.data.out_width
    names, std = exp.data.columns[-width:], exp.data.scaler.std[-width:]
    table = [names, np.multiply(errors["mae"], std), np.sqrt(errors["mse"]) * std]
    shown = list(zip(*table, strict=True))[0 if exp.options.inverse else -1 :]
    print("test in original units:")
    print(tabulate(shown, ["", "MAE", "RMSE"], floatfmt=".5g"))
