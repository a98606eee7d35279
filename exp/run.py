"""One run from flags to record: lock, resume or skip, train, test, write."""

import dataclasses
import gzip
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exp.config import Config
from exp.exp_informer import Exp_Informer
from exp.flags import Options
from exp.record import Record, RunFailed, find_record, set_aside
from exp.samples import parse_windows
from exp.state import fit_weights, load_weights, remove_states, serialise
from utils import environment
from utils.errors import UserError
from utils.files import discard_temporaries, make_folder, sha256_of, write_atomic, write_npz
from utils.interrupt import Stop
from utils.progress import duration

WAIT_SECONDS = 0.5  # between looks at a run that another process has


def run_all(config: Config, options: Options, stop: Stop) -> None:
    """Run the repetitions, with seeds seed, seed + 1, ..., and print their mean."""
    if options.test_only:
        test_loaded(Exp_Informer(config, options, stop))
        return
    scores = []
    for i in range(options.itr):
        stop.check()
        metrics = run_one(dataclasses.replace(config, seed=config.seed + i), options, stop)
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
    record = find_record(options.results, config, exp.data.sha256, options.data_path)
    name = record.folder.name
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
            weights = checkpoints / "weights.pt"
            _add_missing(exp, record.folder, weights, metrics["weights_sha256"])
        report(metrics, exp)
    return metrics


def _run_anew(exp: Exp_Informer, record: Record, checkpoints: Path, writer: Any) -> dict[str, Any]:
    """Train from the last checkpoint on, test, and write everything."""
    name, options = record.folder.name, exp.options
    print(f"{name}: {exp.config.loss_text}", flush=True)
    about = {"data_file": str(exp.data.path), "checkpoints": str(checkpoints), "des": options.des}
    record.start(environment.describe(exp.device) | about, exp.data.scaling())
    if writer:
        exp.writer = writer(str(record.folder / "tensorboard"))
    try:
        metrics = _train_and_test(exp, record, checkpoints)
    except RunFailed as failure:
        remove_states(checkpoints)
        record.finish("failed", {"error": str(failure)})
        raise RunFailed(f"{name}: {failure}") from failure
    record.finish("finished", metrics)
    remove_states(checkpoints)
    return metrics


def _train_and_test(exp: Exp_Informer, record: Record, checkpoints: Path) -> dict[str, Any]:
    """Do the work of a run, and write all of its files but the last one."""
    options, folder = exp.options, record.folder
    state = exp.train(record, checkpoints)
    begun = time.monotonic()
    tested = exp.test()
    write_npz(folder / "window_errors.npz", {"mse": tested.window_mse})
    tested.samples.write(folder, options.plot_windows)
    if tested.forecasts is not None:
        text = tested.forecasts.to_csv(index=False).encode()
        write_atomic(folder / "forecasts.csv.gz", gzip.compress(text, mtime=0))
    if options.do_predict:
        _write_prediction(exp, folder)
    weights = serialise(exp.model.state_dict())
    kept = options.weights == "keep"
    if kept:
        write_atomic(checkpoints / "weights.pt", weights)
    return {
        **tested.scores,
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "val_mse": state.best_val,
        "wall_seconds": state.seconds + time.monotonic() - begun,
        "step_seconds": state.seconds / state.position,
        "peak_memory_mb": environment.peak_memory_mb(exp.device),
        "weights_sha256": sha256_of(weights) if kept else None,
    }


def _add_missing(exp: Exp_Informer, folder: Path, weights: Path, sha256: str | None) -> None:
    """Write what a finished run can still give: a forecast from its weights."""
    if exp.options.save_forecasts and not (folder / "forecasts.csv.gz").exists():
        print("note: --save_forecasts was not given then; it takes --force now")
    if exp.options.do_predict and not (folder / "prediction.png").exists():
        if sha256 is None:
            raise UserError(f"{weights}: was not kept (--weights drop); run anew with --force")
        if not weights.exists():
            raise UserError(f"{weights}: is gone; run anew with --force")
        fit_weights(exp.model, load_weights(weights, sha256), weights)
        _write_prediction(exp, folder)


def _write_prediction(exp: Exp_Informer, folder: Path) -> None:
    for path in exp.predict().write(folder):
        print(f"wrote {path}")


def test_loaded(exp: Exp_Informer) -> None:
    """Test weights from a file: the numbers are printed, and written nowhere."""
    path = exp.options.load
    assert path is not None, "Options demands --load with --test_only"
    parse_windows(exp.options.plot_windows, len(exp.data.test))
    fit_weights(exp.model, load_weights(path), path)
    scaled_by = exp.options.scaler_from or exp.data.path
    print(
        f"{path}: weights as loaded, no training; scaled by the training rows of {scaled_by}; "
        "nothing is recorded"
    )
    report(exp.test().scores, exp)
    if exp.options.do_predict:
        weights, data = sha256_of(path.read_bytes())[:8], exp.data
        name = f"loaded-{path.stem}-{weights}-{data.path.stem}-{data.sha256[:8]}"
        folder = exp.options.results / f"{name}_s{exp.config.seed}"
        make_folder(folder)
        _write_prediction(exp, folder)


def report(metrics: dict[str, Any], exp: Exp_Informer) -> None:
    """Print a run's scores beside the baselines' on the same windows."""
    rows = {exp.config.model: metrics, **metrics["baselines"]}
    full, cut = metrics["all"], metrics["truncated"]
    parts = [f"all {full['windows']} windows", f"truncated to {cut['windows'] if cut else 0}"]
    print(f"{'test, scaled data':18s} {parts[0]:>21s} {parts[1]:>21s}")
    print(f"{'':18s} {'MSE':>11s} {'MAE':>9s} {'MSE':>11s} {'MAE':>9s}")
    for name, scores in rows.items():
        if scores:
            found = [scores[part] or {} for part in ("all", "truncated")]
            cells = [part.get(key, math.nan) for part in found for key in ("mse", "mae")]
            numbers = "{:11.4f} {:9.4f} {:11.4f} {:9.4f}".format(*cells).replace("nan", "  -")
            print(f"  {name:16s} {numbers}")
    others = {name: full[name] for name in ("rmse", "mape", "mspe")}
    texts = [f"{k.upper()} {'-' if v is None else f'{v:.4g}'}" for k, v in others.items()]
    print(f"  {', '.join(texts)}; {full['zeros']} zero truths left out of MAPE and MSPE")
    if exp.options.inverse:
        units = metrics["original_units"]
        print(f"  in original units: MSE {units['mse']:.5g}, MAE {units['mae']:.5g}")


def dry_run(config: Config, options: Options) -> None:
    """Check flags, data and model, run one batch forward and back, print the plan."""
    exp = Exp_Informer(config, options)
    data = exp.data
    parse_windows(options.plot_windows, len(data.test))
    steps = len(data.train) // config.batch_size
    seconds = _time_one_step(exp)
    parameters = sum(p.numel() for p in exp.model.parameters() if p.requires_grad)
    record = find_record(options.results, config, data.sha256, options.data_path)
    whole = duration(seconds * steps * config.train_epochs)
    print(
        f"data: {data.path}, {data.x_width} columns in, {data.out_width} out\n"
        f"windows: train {len(data.train)}, val {len(data.val)}, test {len(data.test)}\n"
        f"model: {config.model}, {parameters:,} parameters, {exp.device}, amp {config.amp}\n"
        f"{config.loss_text}\n"
        f"seeds: {', '.join(str(config.seed + i) for i in range(options.itr))}\n"
        f"training: at most {config.train_epochs} epochs of {steps} steps a seed\n"
        f"time: about {whole} a seed, from one step of {seconds:.2f} s\n"
        f"folder: {record.folder}\n"
        "dry run: nothing was written"
    )


def _time_one_step(exp: Exp_Informer) -> float:
    """Return the seconds of one warm training step, without the optimizer's part."""
    batch = exp.data.train.batch(torch.arange(exp.config.batch_size, device=exp.device))
    exp.model.train()
    begun = 0.0
    for _ in range(2):  # the first step also warms up
        begun = time.monotonic()
        loss, *_ = exp.loss(batch)
        loss.backward()
        if not torch.isfinite(loss):
            raise UserError(f"--dry_run: the first loss is {loss.item()}; check data and --lam")
    return time.monotonic() - begun


def _tensorboard() -> Any:
    """Return TensorBoard's writer class; a UserError if the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional
    except ImportError:
        raise UserError(
            "--tensorboard: not installed; pip install -r requirements-tensorboard.txt"
        ) from None
    return SummaryWriter
