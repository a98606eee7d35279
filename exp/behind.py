"""What stands behind the tables: each cell's runs, their cost, where they ran, what is missing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from exp.cells import SETTING, SIGN_TEXT, SIGNS, Cell, of_sign, paper_settings
from exp.layout import Key, number, table_keys, title
from exp.paper_tables import TABLES
from exp.render import Table
from utils.files import read_json
from utils.progress import duration

SHOWN = {
    "host": "host",
    "processor": "processor",
    "cores": "cores",
    "threads": "threads",
    "device": "device",
    "system": "system",
    "python": "Python",
    "torch": "torch",
    "numpy": "NumPy",
    "pandas": "pandas",
    "git_commit": "git commit",
}


def environments(used: list[str], results: Path) -> tuple[dict[str, str], Table]:
    """Find where the runs ran and with what.

    Args:
        used: the runs' folder names.
        results: the folder they are in.

    Returns:
        A short name of each run's environment (run -> E1, E2, ...), and the table of these.
    """
    configs = [read_json(results / run / "config.json") for run in used]
    found = [tuple(_environment(config["environment"])) for config in configs]
    names = {row: f"E{i + 1}" for i, row in enumerate(dict.fromkeys(found))}
    body = [[name, *row] for row, name in names.items()]
    notes = ["+: the code had changes that were not committed."]
    table = _table("Environments", ["", *SHOWN.values()], body, notes)
    return {run: names[row] for run, row in zip(used, found, strict=True)}, table


def _table(caption: str, names: Sequence[str], body: list[list[str]], notes: list[str]) -> Table:
    return Table(caption, [("", name) for name in names], body, notes=notes)


def _environment(environment: dict[str, Any]) -> list[str]:
    texts = {name: str(environment.get(name) or "-") for name in SHOWN}
    changed = "+" if environment.get("git_dirty") else ""
    return [*(texts | {"git_commit": texts["git_commit"][:12] + changed}).values()]


def runs_table(cell: Cell, places: dict[str, str]) -> Table:
    """Lay out the runs of a cell: scores, cost, environment and folder.

    Args:
        cell: the runs.
        places: short name of each run's environment.
    """
    names = ["c", "seed", "test MSE", "test MAE", "val MSE", "best epoch", "epochs", "wall time"]
    names += ["s a step", "peak MB", "on", "folder"]
    body = []
    for row in cell.runs.to_dict("records"):
        scores = [number(row[name]) for name in ("mse", "mae", "val_mse")]
        epochs = [number(row[name], 0) for name in ("best_epoch", "epochs")]
        cost = [_duration(row["wall_seconds"]), number(row["step_seconds"], 3)]
        cost.append(number(row["peak_memory_mb"], 0))
        on = places[row["run"]]
        body.append([f"{row['c']:g}", f"{row['seed']:g}", *scores, *epochs, *cost, on, row["run"]])
    seeds = [f"{SIGN_TEXT[sign]}: {of_sign(cell, sign)['seed'].nunique()}" for sign in SIGNS]
    whole = duration(float(np.nansum(cell.runs["wall_seconds"])))
    notes = [f"Settings: {settings_text(cell)}.", f"Seeds: {', '.join(seeds)}; together {whole}."]
    where = f"{cell.data} {cell.features} {cell.pred_len}, {cell.model}"
    return _table(f"{where}: {title(cell.table)}", names, body, notes)


def _duration(seconds: float) -> str:
    return "-" if pd.isna(seconds) else duration(seconds)


def settings_text(cell: Cell) -> str:
    """Write the settings that all runs of a cell share."""
    shared = cell.runs.reindex(columns=SETTING).iloc[0].dropna()
    return ", ".join(f"{name} {value}" for name, value in shared.items())


def shortfall_tables(cells: list[Cell]) -> list[Table]:
    """Lay out which of the paper's cells have fewer seeds than the paper, one table each."""
    keys = [key for key in table_keys(cells, [*TABLES]) if key[0] and not key[2]]
    none = [(True, kind, "", "", "") for kind in TABLES if kind not in [key[1] for key in keys]]
    return [
        _shortfall(key, [cell for cell in cells if cell.table == key]) for key in [*keys, *none]
    ]


def _shortfall(key: Key, cells: list[Cell]) -> Table:
    have = {(cell.data, cell.pred_len): cell for cell in cells}
    body = []
    for (data, features, pred_len), row in paper_settings().items():
        cell = have.get((data, pred_len))
        seeds = [of_sign(cell, sign)["seed"].nunique() if cell else 0 for sign in SIGNS]
        if features == key[1] and min(seeds) < row["itr"]:
            texts = [f"{n} of {row['itr']}" if n < row["itr"] else str(n) for n in seeds]
            body.append([data, str(pred_len), *texts])
    names = ["data", "pred_len", *(SIGN_TEXT[sign] for sign in SIGNS)]
    note = "Cells with fewer seeds than the paper's repetitions." if body else "Nothing is missing."
    return _table(f"Seeds: {title(key)}", names, body, [note])


def left_out_table(frame: pd.DataFrame, used: list[str]) -> Table:
    """Lay out the runs that no number of the report comes from.

    Args:
        frame: all runs, as `read_runs` returns them.
        used: folder names of those that are used.
    """
    names = ["run", "status", "results_version", "error"]
    left = frame.reindex(columns=names).loc[lambda rows: ~rows["run"].isin(used)]
    body = [["-" if pd.isna(value) else str(value) for value in row] for row in left.to_numpy()]
    note = "Finished runs are here for their results version, or for a score that is not finite."
    return _table("Runs left out", names, body, [note])
