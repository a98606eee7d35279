"""The paper's claims, one by one: what the runs say on each, and what an open one would take."""

import contextlib
import math
import re
from typing import Any

import numpy as np
import pandas as pd

from paper.pairs import CONTROL, compare, contrasts, pair
from paper.runs import CELL, PRINTED, Runs, by_cell, select_metrics
from paper.signs import UNDECIDED
from paper.tables import count_note, published_layout
from utils.files import UserError
from utils.formats import Column, Table, interval, percent
from utils.stats import mean_interval

HEADS = ("Claim (the paper's λ is -c)", "Place", "Test", "Numbers", "Supported?", "Command")
LITTLE = 5.0  # percent of a step's time that counts as "very little extra computational cost"
ALIKE = 2.0  # percent by which the errors of two λ may differ where λ is said not to matter
OPEN = ("in progress", "no runs", "to be extended")  # how the verdict on an open one begins
PUBLISHED = "all 100 numbers round to those of the tables that Informer's authors published"
NOTES = (
    "H1 to H4 are tests, over seeds, for one test split. Until all four are complete, Holm's "
    "correction counts an open one as p = 1: completing it can turn `undecided` into a decision, "
    "and change no decision. Equivalence is tested at 5 % each, not corrected. All other rows are "
    "exploratory: they say where an interval lies. While a hypothesis is open, no interval of "
    "its errors is shown; the tables below show its runs.",
    "Cost: what is compared is the gradient of LipReg, since runs with c = 0 compute LipReg as "
    f"well, to record it; seconds a step include validation; below {LITTLE:g} % counts as little.",
)


def claim_table(runs: Runs, tested: pd.DataFrame, scored: pd.DataFrame) -> Table:
    """Set the paper's claims beside the runs.

    Args:
        tested: the hypotheses' verdicts, of `paper.signs.verdicts`.
        scored: the runs with the scores over all windows, of `paper.runs.select_metrics`.
    """
    rows = [*_errors(runs, tested, scored), *_lipschitz(runs, scored), _cost(scored)]
    frame = pd.DataFrame(rows, columns=HEADS)
    return Table("", frame, [Column(head, head) for head in HEADS], notes=[*NOTES])


def open_cells(tested: pd.DataFrame) -> list[str]:
    """Name the cells in which a hypothesis on c against 0 is open."""
    rows = tested.loc[(tested["state"] != "") & (tested["second"] == 0)].to_dict("records")
    return [f"{row['data']} {row['features']} {row['pred_len']}" for row in rows]


def judge(holds: Any, fails: Any) -> str:
    """Name what an interval says on a claim."""
    return "supported" if holds else "not supported" if fails else UNDECIDED


def _errors(runs: Runs, tested: pd.DataFrame, scored: pd.DataFrame) -> list[tuple[str, ...]]:
    """Judge the claims on errors; an open one names the command that it would take."""
    verdict = dict.fromkeys(("H1", "H2", "H3", "H4"), UNDECIDED)
    for row in tested.to_dict("records"):
        wish = re.search(r"about \d+ seeds would give an interval of ±\S+ %", row["sentence"])
        verdict[row["name"]] = row["verdict"] + (f" ({wish[0]})" if wish else "")
    h1, h2, h3, h4 = (f"{name}: {words}" for name, words in verdict.items())
    every = contrasts(scored.loc[~scored["label"].isin(open_cells(tested))])
    every = every.query("model == 'informer' and axis == 'feature' and norm == 'max'")
    every = every.loc[every["printed"].astype(bool) & (every["amp"] == "off")]
    table = every.query("second == 0 and n > 1")
    curve = table.query("data == 'ETTh2' and features == 'S' and not control")
    missing = {} if len(curve) >= 50 else {"figure3": OPEN[0]}  # 10 c at 5 horizons
    missing |= {name: words for name, words in verdict.items() if words.startswith(OPEN)}
    table5 = published_layout(select_metrics(runs.frame)).query(
        "model == 'informer' and features == 'M'"
    )
    rows = [
        ("The column without Lip is a control run", "Tables 2, 5", "print against print", PUBLISHED,
         "not supported", "", ""),
        ("Lip lowers the error", "Tables 2, 5", "H1, H2, H3; c = -2 against 0 in every cell",
         _counted(table.query("first == -2")), f"{h1}; {h2}; {h3}", "python -m paper.signs",
         "H1 H2 H3"),
        ("MSE rises with λ < 0 and falls with λ > 0", "Figure 3", "H4; every c against 0",
         f"c < 0: {_counted(curve.query('first < 0'))}; "
         f"c > 0: {_counted(curve.query('first > 0'))}", h4, "python -m paper.figures",
         "H4 figure3"),
        _insensitive(scored),
        ("Informer + Lip is better in 38 of 50", "Table 5", "count of the lower means",
         count_note(table5, "informer", "M"), "not supported in print, whose cells give 37; "
         f"ours {UNDECIDED} before all cells", "python -m paper.tables", ""),
    ]  # fmt: skip
    found = []
    for *row, said, command, stages in rows:
        left = {name: missing[name] for name in stages.split() if name in missing}
        asked = any(word in said for word in (UNDECIDED, *OPEN))
        found.append((*row, f"{said}{_takes(left)}" if left and asked else said, command))
    return found


def _takes(left: dict[str, str]) -> str:
    """Name the commands that make the runs which are missing."""
    more = {name: re.search(r"seeds (\d+) to (\d+)$", words) for name, words in left.items()}
    plain = " ".join(name for name, seeds in more.items() if not seeds)
    commands = [f'STAGES="{plain}"'] * bool(plain)
    for name, seeds in more.items():
        if seeds:
            asked = " ".join(map(str, range(int(seeds[1]), int(seeds[2]) + 1)))
            commands.append(f'STAGES="{name}" SEEDS="{asked}"')
    return "; it would take " + " and ".join(f"`{x} bash scripts/study.sh`" for x in commands)


def _insensitive(scored: pd.DataFrame) -> tuple[str, ...]:
    """Compare every other c < 0 with c = -2, at the five horizons of Figure 3."""
    cells = scored.query("model == 'informer' and data == 'ETTh2' and features == 'S'")
    cells = cells.query("printed and amp == 'off' and axis == 'feature' and norm == 'max'")
    cells = cells.loc[cells["c"] < -CONTROL]
    rows = []
    for _, cell in by_cell(cells).groupby(CELL, sort=False):
        for c in cell.loc[cell["c"] != -2, "c"].unique():
            rows.append(compare(pair(cell, c, -2.0), c, -2.0))
    frame = pd.DataFrame(rows, columns=["low", "high", "failed"])
    within = len(rows) >= 20 and ((frame["low"] > -ALIKE) & (frame["high"] < ALIKE)).all()
    apart = ((frame["low"] > ALIKE) | (frame["high"] < -ALIKE)).any()
    said = judge(within and not any(frame["failed"]), apart)
    return ("Not sensitive to λ", "Section 4",
            f"every other c < 0 against c = -2: intervals within ±{ALIKE:g} %", _counted(frame),
            said, "python -m paper.figures", "figure3")  # fmt: skip


def _counted(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "no interval yet"
    below, above = sum(rows["high"] < 0), sum(rows["low"] > 0)
    covers = len(rows) - below - above
    word = "interval" if len(rows) == 1 else "intervals"
    return f"{len(rows)} {word}: {below} below 0, {above} above, {covers} covering 0"


def _lipschitz(runs: Runs, scored: pd.DataFrame) -> list[tuple[str, ...]]:
    """Judge what Figure 2 shows of L_f, from its mean over each epoch's steps in ETTh2 S 24."""
    cells = by_cell(scored.loc[scored["outcome"] == "ok"])
    cells = cells.query("printed and axis == 'feature' and norm == 'max' and c in (-2, 0)")
    ends: dict[float, dict[int, float]] = {-2: {}, 0: {}}
    growth = []
    for row in cells.loc[cells["label"] == "ETTh2 S 24"].to_dict("records"):
        with contextlib.suppress(UserError, KeyError):  # without a history, or of earlier versions
            epochs = runs.history(row["run"])["train_l_f"].map(math.log).to_numpy()
            middle, ends[row["c"]][row["seed"]] = _middle_and_last(epochs)
            growth += [ends[row["c"]][row["seed"]] - middle] * (row["c"] == -2)
    larger = [end - ends[0][seed] for seed, end in ends[-2].items() if seed in ends[0]]
    curve = pd.read_csv(PRINTED / "figure2.csv")
    curve["epoch"] = np.ceil(curve["epoch"])
    means = curve.pivot_table("lipschitz_constant", "epoch", "series").map(math.log)
    before, end = _middle_and_last(means["lip"].to_numpy())
    return [
        _curve_row("L_f becomes larger", "last epoch's mean, c = -2 against 0, by seed", larger,
                   end - means["original"].to_numpy()[-1]),
        _curve_row("L_f keeps growing", "c = -2: mean of the last epoch against the first "
                   "after the middle, by seed", growth, end - before),
    ]  # fmt: skip


def _curve_row(claim: str, test: str, values: list[float], shown: float) -> tuple[str, ...]:
    """Judge whether L_f grows, and say by how much; shown: in the printed curve."""
    found, shown = _percent_interval(values), 100 * math.expm1(shown)
    said = judge(found["low"] > 0, found["high"] < 0)
    if said == "supported" and (found["low"] > shown or found["high"] < shown):
        said += ", in another size than printed"
    numbers = f"{interval(found)}, n = {len(values)}; printed {percent(shown)}"
    return claim, "Figure 2", test, numbers, said, "python -m paper.figures"


def _middle_and_last(epochs: np.ndarray) -> tuple[float, float]:
    """Return the values of the first epoch after the middle, and of the last."""
    return float(epochs[len(epochs) // 2]), float(epochs[-1])


def _percent_interval(logs: list[float]) -> dict[str, float]:
    bounds = (100 * math.expm1(float(x)) for x in mean_interval(logs))
    return dict(zip(("change", "low", "high"), bounds, strict=True))


def _cost(scored: pd.DataFrame) -> tuple[str, ...]:
    """Judge the time of a step, c = -2 against 0 in all of the paper's cells, by seed."""
    cells = by_cell(scored.loc[scored["outcome"] == "ok"])
    cells = cells.query("printed and axis == 'feature' and norm == 'max'")
    lip, zero = (cells.loc[cells["c"] == c] for c in (-2, 0))
    alike = [*CELL, "seed", "processor", "device"]
    both = lip.merge(zero, on=alike, suffixes=("_lip", "_zero"))
    steps = np.log(both["step_seconds_lip"] / both["step_seconds_zero"]).dropna()
    found = _percent_interval([*steps])
    said = judge(found["high"] < LITTLE, found["low"] > LITTLE)
    test = "seconds a step, c = -2 against 0: the gradient of LipReg"
    numbers, command = f"{interval(found)}, n = {len(steps)}", "python -m paper.study results"
    return "Very little extra computational cost", "Section 3", test, numbers, said, command
