"""One run from flags to record: lock, resume or skip, train, test, write."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exp.checkpoint import fit_weights, load_weights, remove_states, serialise
from exp.config import Config
from exp.exp_informer import Exp_Informer
from exp.flags import Options
from exp.forecasts import parse_windows
from exp.record import Record, set_aside
from exp.training import RunFailed
from utils import environment
from utils.errors import UserError
from utils.files import discard_temporaries, make_folder, sha256_of, write_atomic, write_npz
from utils.interrupt import Stop
from utils.progress import duration

WAIT_SECONDS = 0.5  # between looks at a run that another process has


def run_all(config: Config, options: Options, stop: Stop) -> None:
    """Run the repetitions one after the other and print their mean.

    Args:
        config: the settings; repetition i runs with seed + i.
        options: where and how.
        stop: tells of signals.
    """
    scores = []
    for i in range(options.itr):
        stop.check()
        repetition = dataclasses.replace(config, seed=config.seed + i)
        metrics = run_one(repetition, options, stop)
        scores.append([metrics["all"]["mse"], metrics["all"]["mae"]])
    if options.itr > 1:
        mean, sd = np.mean(scores, axis=0), np.std(scores, axis=0, ddof=1)
        print(
            f"{options.itr} repetitions: MSE {mean[0]:.4f} ± {sd[0]:.4f}, "
            f"MAE {mean[1]:.4f} ± {sd[1]:.4f} (mean ± sd, all test windows)"
        )


def run_one(config: Config, options: Options, stop: Stop) -> dict[str, Any]:
    """Do one run, or what is left of it, and return its metrics.

    Raises:
        UserError: a mistake in flags or data, or a disk that refuses.
        RunFailed: the loss stopped being finite, now or when the run was last tried.
        Interrupted: a signal came.
    """
    exp = Exp_Informer(config, options, stop)
    writer = _tensorboard() if options.tensorboard else None
    parse_windows(options.plot_windows, len(exp.data.test))
    if options.test_only:
        return test_loaded(exp)
    name = config.run_name(exp.data.sha256)
    record = Record(options.results / name, config.identity(exp.data.sha256))
    checkpoints = options.checkpoints / name if options.checkpoints else record.folder

    def pause() -> None:
        stop.check()
        time.sleep(WAIT_SECONDS)

    with record.hold(pause if options.wait else None):
        if options.force and record.ended:  # what was cut off is continued
            for folder in {record.folder, checkpoints}:
                set_aside(folder)
        metrics = record.metrics()
        if metrics is None:
            make_folder(checkpoints)
            for folder in {record.folder, checkpoints}:
                discard_temporaries(folder)
            metrics = _run_anew(exp, record, checkpoints, writer)
        elif metrics["status"] == "failed":
            raise RunFailed(f"{name}: failed before: {metrics['error']}; --force tries again")
        else:
            print(f"{name}: done before, skipped (--force runs it anew)")
            remove_states(checkpoints)  # left if a kill came after the last file
            if options.save_forecasts and not (record.folder / "forecasts.npz").exists():
                print("note: --save_forecasts was not given then; it takes --force now")
            if options.do_predict and not (record.folder / "prediction.png").exists():
                _reload(exp, checkpoints, metrics)
                _write_prediction(exp, record.folder)
        report(metrics, exp)
    return metrics


def _run_anew(exp: Exp_Informer, record: Record, checkpoints: Path, writer: Any) -> dict[str, Any]:
    """Train from the last checkpoint on, test, and write everything."""
    config, options = exp.config, exp.options
    print(f"{record.folder.name}: {config.loss_text}", flush=True)
    scaler = exp.data.scaler
    record.start(
        {**environment.describe(exp.device), **_paths(exp, checkpoints)},
        {"columns": exp.data.columns, "mean": scaler.mean.tolist(), "std": scaler.std.tolist()},
    )
    if writer:
        exp.board = writer(str(record.folder / "tensorboard"))
    progress = exp.train(record, checkpoints)
    begun = time.monotonic()
    body, samples, errors, forecasts = exp.test()
    write_npz(record.folder / "window_errors.npz", {"mse": errors})
    samples.write(record.folder, options.plot_windows)
    if forecasts is not None:
        write_npz(record.folder / "forecasts.npz", {"pred": forecasts})
    if options.do_predict:
        _write_prediction(exp, record.folder)
    weights = serialise(exp.model.state_dict())
    kept = options.weights == "keep"
    if kept:
        write_atomic(checkpoints / "weights.pt", weights)
    steps = len(exp.data.train) // config.batch_size * progress.epoch
    metrics = {
        **body,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "val_mse": progress.best_val,
        "wall_seconds": progress.seconds + time.monotonic() - begun,
        "step_seconds": progress.seconds / steps,
        "peak_memory_mb": environment.peak_memory_mb(exp.device),
        "weights_sha256": sha256_of(weights) if kept else None,
    }
    record.finish("finished", metrics)
    remove_states(checkpoints)
    return metrics


def _paths(exp: Exp_Informer, checkpoints: Path) -> dict[str, str]:
    return {
        "data_file": str(exp.data.path),
        "checkpoints": str(checkpoints),
        "des": exp.options.des,
    }


def _reload(exp: Exp_Informer, folder: Path, metrics: dict[str, Any]) -> None:
    """Bring back the weights of a finished run."""
    path = folder / "weights.pt"
    if metrics["weights_sha256"] is None:
        raise UserError(f"{path}: was not kept (--weights drop); run anew with --force")
    fit_weights(exp.model, load_weights(path, metrics["weights_sha256"]), path)


def _write_prediction(exp: Exp_Informer, folder: Path) -> None:
    for path in exp.predict().write(folder):
        print(f"wrote {path}")


def test_loaded(exp: Exp_Informer) -> dict[str, Any]:
    """Test weights from a file: the numbers are printed, and written nowhere."""
    path = exp.options.load
    assert path is not None, "Options demands --load with --test_only"
    fit_weights(exp.model, load_weights(path), path)
    metrics, _, _, _ = exp.test()
    print(f"{path}: weights as loaded, no training; nothing is recorded")
    report(metrics, exp)
    if exp.options.do_predict:
        checksum = sha256_of(path.read_bytes())[:8]
        folder = exp.options.results / f"loaded-{path.stem}-{checksum}_s{exp.config.seed}"
        make_folder(folder)
        _write_prediction(exp, folder)
    return metrics


def report(metrics: dict[str, Any], exp: Exp_Informer) -> None:
    """Print a run's scores beside the baselines' on the same windows."""
    rows = {exp.config.model: metrics}
    rows |= {name: scores for name, scores in metrics["baselines"].items() if scores}
    full, cut = metrics["all"], metrics["truncated"]
    parts = [f"all {full['windows']} windows", f"truncated to {cut['windows'] if cut else 0}"]
    print(f"{'test, scaled data':18s} {parts[0]:>21s} {parts[1]:>21s}")
    print(f"{'':18s} {'MSE':>11s} {'MAE':>9s} {'MSE':>11s} {'MAE':>9s}")
    for name, scores in rows.items():
        cells = [
            scores[part][key] if scores[part] else float("nan")
            for part in ("all", "truncated")
            for key in ("mse", "mae")
        ]
        numbers = "{:11.4f} {:9.4f} {:11.4f} {:9.4f}".format(*cells).replace("nan", "  -")
        print(f"  {name:16s} {numbers}")
    percentages = ", ".join(
        f"{name.upper()} {full[name]:.4g}" if full[name] is not None else f"{name.upper()} -"
        for name in ("rmse", "mape", "mspe")
    )
    print(f"  {percentages}; {full['zeros']} zero truths left out of MAPE and MSPE")
    if exp.options.inverse:
        units = metrics["original_units"]
        print(f"  in original units: MSE {units['mse']:.5g}, MAE {units['mae']:.5g}")


def dry_run(config: Config, options: Options) -> None:
    """Check flags, data and model, run one batch forward and back, print the plan."""
    exp = Exp_Informer(config, options)
    parse_windows(options.plot_windows, len(exp.data.test))
    data = exp.data
    steps = len(data.train) // config.batch_size
    seconds = time_one_step(exp)
    parameters = sum(p.numel() for p in exp.model.parameters() if p.requires_grad)
    seeds = ", ".join(str(config.seed + i) for i in range(options.itr))
    lines = {
        "data": f"{data.path}, {data.x_width} columns in, {data.out_width} out",
        "windows": f"train {len(data.train)}, val {len(data.val)}, test {len(data.test)}",
        "model": f"{config.model}, {parameters:,} parameters, {exp.device}, amp {config.amp}",
        "loss": config.loss_text,
        "seeds": seeds,
        "training": f"at most {config.train_epochs} epochs of {steps} steps a seed",
        "time": f"about {duration(seconds * steps * config.train_epochs)} a seed, "
        f"from one step of {seconds:.2f} s",
        "folder": str(options.results / config.run_name(data.sha256)),
    }
    for name, text in lines.items():
        print(text if name == "loss" else f"{name}: {text}")
    print("dry run: nothing was written")


def time_one_step(exp: Exp_Informer) -> float:
    """Return the seconds of one warm training step, without the optimizer's part."""
    batch = exp.data.train.batch(torch.arange(exp.config.batch_size, device=exp.device))
    exp.model.train()
    begun = time.monotonic()
    for _ in range(2):  # the first step also warms up
        begun = time.monotonic()
        loss, _ = exp.loss(batch)
        loss.backward()
        if not torch.isfinite(loss):
            raise UserError(f"--dry_run: the first loss is {loss.item()}; check data and --lam")
    return time.monotonic() - begun


def _tensorboard() -> Any:
    """Return TensorBoard's writer class.

    Raises:
        UserError: the optional package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional
    except ImportError:
        raise UserError(
            "--tensorboard: not installed; pip install -r requirements-tensorboard.txt"
        ) from None
    return SummaryWriter
