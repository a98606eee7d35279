"""Figures drawn from folders of runs: their numbers, their words, and that all can be read."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure as Drawing
from matplotlib.text import Text

from paper.figures import Figure, draw_all, main
from paper.runs import PRINTED, load, score_windows
from tests.records import damage, eval_l_f, write_arm, write_run, write_study
from tests.runs import ROOT
from utils import plots
from utils.errors import UserError
from utils.files import read_json, write_json, write_npz


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> dict[str, Figure]:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    write_run(folder, 0.1, 2.0, arrays=True, lip_axis="time")
    write_run(folder, 0.1, -1e-6, arrays=True, lip_axis="feature")
    return drawn(folder)


def drawn(results: Path, gap: str = "") -> dict[str, Figure]:
    """Draw all figures, by name; one file is missing whose name has `gap` in it, or none is."""
    runs = load(results)
    figures, gaps = draw_all(runs, score_windows(runs.frame))
    assert len({figure.name for figure in figures}) == len(figures)
    assert len(gaps) == bool(gap) and all(gap in line for line in gaps)
    return {figure.name: figure for figure in figures}


def lines(figure: Figure, panel: int = 0) -> dict[str, np.ndarray]:
    """The labelled lines of a panel: [2, points] each; those of one label joined."""
    found: dict[str, list[np.ndarray]] = {}
    for line in figure.drawing.axes[panel].get_lines():
        found.setdefault(str(line.get_label()), []).append(np.array(line.get_data(), dtype=float))
    return {label: np.concatenate(parts, axis=1) for label, parts in found.items()}


def texts_of(drawing: Drawing) -> list[Text]:
    """Every text that is drawn; ticks beyond an axis' ends are not."""
    found = [text for legend in drawing.legends for text in legend.get_texts()] + drawing.texts
    for panel in drawing.axes:
        found += [panel.title, panel.xaxis.label, panel.yaxis.label]
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            found += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    return [text for text in found if text.get_text()]


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_files_of_each_format_and_a_rebuild_gives_the_same_bytes(tmp_path, form, capsys):
    results, again = tmp_path / "results", tmp_path / "again"
    write_arm(results, -2.0, [0.1, 0.2], arrays=True)
    write_arm(results, 0.0, [0.1, 0.2], arrays=True)
    write_run(results, 0.1, features="M")
    assert main(["--results", str(results), "--format", form, "--data", "ETTh2"]) == 0
    assert "wrote 6 figures to" in capsys.readouterr().out
    command = [sys.executable, "-m", "paper.figures", "--results", str(results), "--format", form]
    command += ["--out", str(again)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    names = {f"{kind}-ETTh2-S.{form}" for kind in ("figure2", "figure3", "steps", "windows")}
    names |= {f"{kind}-ETTh2-M.{form}" for kind in ("figure2", "steps")}
    assert {path.name for path in again.iterdir()} == names
    for path in again.iterdir():
        assert path.read_bytes() == (results / "figures" / path.name).read_bytes(), path.name
        if form == "svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_no_text_covers_another_and_arms_differ_without_colour(study):
    assert {name.split("-")[0] for name in study} == {"figure2", "figure3", "steps", "windows"}
    for figure in study.values():
        FigureCanvasAgg(figure.drawing).draw()
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure.drawing)]
        assert len(boxes) > 20
        for (one, box), (other, box_too) in itertools.combinations(boxes, 2):
            assert not box.overlaps(box_too), (figure.name, one, other)
        (legend,) = figure.drawing.legends
        handles = legend.get_lines()
        looks = {(h.get_linestyle(), h.get_marker(), h.get_linewidth()) for h in handles}
        assert len(looks) == len(handles)
    figure = study["figure3-ETTh2-S"].drawing
    words = {text.get_text() for text in texts_of(figure)}
    assert {"ETTh2 S: test MSE with LipReg", "c (the paper's λ is −c)", "−4", "−1e−6"} <= words
    assert [axis.get_title() for axis in figure.axes] == [
        "24 steps (48/48), feature axis, n = 1 to 3",
        "24 steps (48/48), time axis, n = 1",
        "336 steps (336/168), feature axis, n = 3",
    ]


def test_figure_3_has_paired_changes_by_seed_their_interval_and_the_print(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.2, 0.3, None], arrays=True)
    write_arm(tmp_path, -2.0, [0.11, 0.18, 0.33, 0.9], arrays=True)  # the last has no pair
    write_arm(tmp_path, 32.0, [None, 0.4], arrays=True)
    write_run(tmp_path, None, 4.0, status="failed")
    found = lines(drawn(tmp_path)["figure3-ETTh2-S"])
    changes = [10, -10, 10, 100]
    np.testing.assert_allclose(found["one seed"][1], changes)
    np.testing.assert_allclose(found["one seed"][0], [2.88, 2.88, 2.88, 10.88])  # places of -2, +32
    d = np.log([1.1, 0.9, 1.1])
    half = 4.302652729911275 * np.std(d, ddof=1) / np.sqrt(3)  # t(0.975, 2) sd / sqrt(n)
    (bars, alone) = [
        c for c in drawn(tmp_path)["figure3-ETTh2-S"].drawing.axes[0].containers
        if isinstance(c, ErrorbarContainer)
    ]  # fmt: skip
    segment = bars.lines[2][0].get_segments()[0]
    expected = 100 * np.expm1([d.mean() - half, d.mean() + half])
    np.testing.assert_allclose(segment[:, 1], expected)
    assert alone.lines[2][0].get_segments()[0].size == 0  # one seed has no interval
    printed = pd.read_csv(PRINTED / "figure3.csv").query("pred_len == 24").set_index("lam")["mse"]
    assert found["printed"][1, 2] == pytest.approx(100 * (printed[-3] / printed[0] - 1))
    assert found["printed"][0].tolist() == [*range(11)][::-1]  # λ = -5 is c = 5
    low, high = drawn(tmp_path)["figure3-ETTh2-S"].drawing.axes[0].get_ylim()
    assert low < -10 and 100 < high < 115  # intervals do not stretch the axis


def test_figure_2_has_one_run_as_it_is_and_the_mean_apart(tmp_path):
    for seed, (level, epochs) in enumerate(((0.1, 2), (0.3, 4))):  # seed 0 stops after two epochs
        folder = write_run(tmp_path, 0.1, -2.0, seed, arrays=True)
        epoch = np.arange(1, 20 * epochs + 1) / 20
        write_npz(folder / "trace.npz", {"epoch": epoch, "l_f": level + 0.01 * (epoch % 0.1)})
    figure = drawn(tmp_path)["figure2-ETTh2-S"]
    one, mean = lines(figure, 0), lines(figure, 1)
    epoch, l_f = one["c = −2"]
    np.testing.assert_allclose(l_f, 0.1 + 0.01 * (epoch % 0.1))  # seed 0, not smoothed
    epoch, l_f = mean["c = −2"]
    np.testing.assert_allclose(l_f[epoch < 1.9], 0.2, atol=0.001)
    np.testing.assert_allclose(l_f[epoch > 2.1], 0.3, atol=0.001)
    np.testing.assert_allclose(mean["c = −2, evaluation mode"][1], eval_l_f(-2.0))
    curve = pd.read_csv(PRINTED / "figure2.csv").query("series == 'lip'")
    np.testing.assert_array_equal(one["printed, c < 0"].T, curve[["epoch", "lipschitz_constant"]])
    assert "printed, c < 0" not in mean
    titles = [axis.get_title() for axis in figure.drawing.axes]
    assert titles[0].endswith("one run each, seed 0") and titles[1].endswith("mean, n = 2")


def test_steps_are_paired_changes_beside_the_errors_and_the_baselines(tmp_path):
    for seed in range(2):
        for c, steps in ((0.0, np.ones(24)), (2.0, np.linspace(0.9, 1.1, 24))):
            folder = write_run(tmp_path, 0.1, c, seed, data="WTH", arrays=True)
            body = read_json(folder / "metrics.json")
            body["by_step"]["mse"] = list((1 + seed) * steps)
            body["baselines"]["ridge"]["by_step"] = {"mse": [0.5] * 24}
            write_json(folder / "metrics.json", body)
    figure = drawn(tmp_path)["steps-WTH-S"]
    np.testing.assert_allclose(lines(figure)["c = +2"][1], 1.5 * np.linspace(0.9, 1.1, 24))
    np.testing.assert_allclose(lines(figure)["ridge"][1], 0.5)
    np.testing.assert_allclose(lines(figure, 1)["c = +2"][1], np.linspace(-10, 10, 24), atol=1e-9)


def test_windows_are_the_same_for_every_c_and_the_seed_is_shared(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.1], arrays=True, target="a$\\b{ <&", data="ETTh1")
    write_arm(tmp_path, -2.0, [None, 0.1], arrays=True, target="a$\\b{ <&", data="ETTh1")
    (figure,) = (f for name, f in drawn(tmp_path).items() if name.startswith("windows"))
    assert [axis.get_title().split("\n")[1] for axis in figure.drawing.axes] == [
        f"from 2017-11-{day} {hour}:00" for day, hour in (("06", "05"), ("07", "21"), ("09", "13"))
    ]
    found = lines(figure)
    np.testing.assert_allclose(found["c = 0"][1, 1:] - found["c = −2"][1, 1:], 1)  # as records says
    truth = found["history and truth"][1, -24:]
    seed_1 = truth + np.cos(np.arange(24) / 9 + 1)
    np.testing.assert_allclose(found["c = 0"][1, 1:], seed_1)
    assert figure.drawing.axes[0].get_ylabel() == "a$\\b{ <&"
    ElementTree.fromstring(plots.render(figure.drawing, "svg"))


def test_axes_precisions_and_normalisations_are_never_in_one_panel(tmp_path):
    for axis, amp, norm in itertools.product(("time", "feature"), ("off", "bf16"), ("max", "none")):
        own: dict[str, Any] = {"lip_axis": axis, "amp": amp, "lip_norm": norm}
        write_run(tmp_path, 0.1, -2.0, arrays=True, **own)
    for amp in ("off", "bf16"):
        write_run(tmp_path, 0.1, 0.0, arrays=True, amp=amp)
    figures = drawn(tmp_path)
    for name in ("figure3-ETTh2-S", "figure3-ETTh2-S-bf16"):
        panels = figures[name].drawing.axes
        assert len({panel.get_title() for panel in panels}) == len(panels) == 4
        assert all(lines(figures[name], i)["one seed"].shape == (2, 1) for i in range(4))
    for i, panel in enumerate(figures["figure2-ETTh2-S"].drawing.axes):
        measured_alike = "lip_norm none" not in panel.get_title()  # c = 0 was max-normalised
        assert ("c = 0" in lines(figures["figure2-ETTh2-S"], i)) == measured_alike


@pytest.mark.parametrize("file", ["trace.npz", "samples.npz", "history.json"])
def test_a_missing_file_is_named_and_the_rest_is_drawn(tmp_path, file):
    damage(write_run(tmp_path, 0.1, arrays=True), f"no {file}")
    write_run(tmp_path, 0.1, -2.0, arrays=True)
    figures = drawn(tmp_path, gap=file)
    assert ("windows-ETTh2-S" in figures) == (file != "samples.npz")


def test_no_runs_no_folder_and_an_output_that_cannot_be_made(tmp_path, capsys):
    write_run(tmp_path, status="unfinished")
    assert main(["--results", str(tmp_path)]) == 0
    assert "wrote 0 figures" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"(?i)none: no such .*--results"):
        main(["--results", str(tmp_path / "none")])
    with pytest.raises(UserError, match="cannot be made"):
        (tmp_path / "file").touch()
        main(["--results", str(tmp_path), "--out", str(tmp_path / "file")])
