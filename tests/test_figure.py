"""Figures drawn from folders of runs."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure as Drawing
from matplotlib.text import Text

from exp.cells import PAPER, find_cells, usable_runs
from exp.config import RESULTS_VERSION
from exp.figure import Figure, captions, draw_all, main
from exp.record import read_runs
from tests.records import (
    ODD,
    eval_l_f,
    paper_config,
    start_run,
    write_odd,
    write_run,
    write_study,
)
from tests.runs import ROOT
from utils.files import write_npz


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return folder


def drawn(results: Path, score: str = "truncated") -> dict[str, Figure]:
    runs, _ = usable_runs(read_runs(results), score)
    figures = list(draw_all(find_cells(runs), results, score))
    assert len({figure.name for figure in figures}) == len(figures)
    return {figure.name: figure for figure in figures}


def lines(figure: Figure, panel: int = 0) -> dict[str, np.ndarray]:
    """The labelled lines of a panel: [2, points] each."""
    found = figure.drawing.axes[panel].get_lines()
    return {str(line.get_label()): np.array(line.get_data(), dtype=float) for line in found}


def test_png_and_svg_of_each_figure_and_a_rebuild_gives_the_same_bytes(tmp_path):
    results, first, again = tmp_path / "results", tmp_path / "first", tmp_path / "again"
    write_run(results, paper_config("ETTh2", "S", 24, lip_coef=-2.0))
    assert main(["--results", str(results), "--out", str(first)]) == 0
    command = [sys.executable, "-m", "exp.figure", "--results", str(results), "--out", str(again)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    stems = [f"{name}-informer-ETTh2-S-feature-fp32" for name in ("figure2", "figure3", "steps")]
    stems.append("windows-informer-ETTh2-S-feature-fp32-24-48-48")
    expected = {f"{stem}.{form}" for stem in stems for form in ("png", "svg")} | {"captions.md"}
    assert {path.name for path in first.iterdir()} == expected
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
    written = (first / "captions.md").read_text()
    assert all(f"## {stem}\n" in written for stem in stems)


def test_no_text_covers_another_and_signs_differ_without_colour(study):
    for figure in drawn(study).values():
        FigureCanvasAgg(figure.drawing).draw()
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure.drawing)]
        assert len(boxes) > 20
        for (one, box), (other, box_too) in itertools.combinations(boxes, 2):
            assert not box.overlaps(box_too), (figure.name, one, other)
        (legend,) = figure.drawing.legends
        looks = [
            (handle.get_linestyle(), handle.get_marker())
            for handle in legend.get_lines()
            if handle.get_color() != "#8c8c8c"
        ]
        assert len(looks) == len(set(looks)) or figure.name.startswith("windows")


def texts_of(drawing: Drawing) -> list[Text]:
    """Every text that is drawn; ticks beyond an axis' ends are not."""
    found = [text for legend in drawing.legends for text in legend.get_texts()]
    for panel in drawing.axes:
        found += [panel.title, panel.xaxis.label, panel.yaxis.label]
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            found += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    return [text for text in found if text.get_text()]


def test_figure_2_is_the_mean_over_seeds_with_the_print_behind(tmp_path):
    for seed, level, epochs in ((0, 0.1, 2), (1, 0.3, 4)):  # seed 0 stops after two epochs
        folder = write_run(tmp_path, paper_config("ETTh2", "S", 24, lip_coef=-2.0, seed=seed))
        epoch = np.arange(1, 20 * epochs + 1) / 20
        write_npz(folder / "trace.npz", {"epoch": epoch, "l_f": np.full(len(epoch), level)})
    figure = drawn(tmp_path)["figure2-informer-ETTh2-S-feature-fp32"]
    found = lines(figure)
    epoch, l_f = found["c < 0, training"]
    np.testing.assert_allclose(l_f[epoch < 1.9], 0.2)
    np.testing.assert_allclose(l_f[epoch > 2.1], 0.3)
    epoch, l_f = found["c < 0, evaluation"]
    np.testing.assert_array_equal(epoch, [1, 2, 3, 4, 5, 6])
    np.testing.assert_allclose(l_f, eval_l_f(-2.0))
    printed = pd.read_csv(PAPER / "figure2.csv")
    for series, label in (("lip", "printed, c < 0"), ("original", "printed, c = 0")):
        rows = printed[printed["series"] == series]
        np.testing.assert_array_equal(found[label], rows[["epoch", "lipschitz_constant"]].T)
    assert figure.drawing.axes[0].get_title().endswith("c = −2 (n = 2)")
    wanted = f"feature axis, fp32, lip_norm max, 2 seeds a c, results version {RESULTS_VERSION}"
    assert wanted in figure.caption
    assert "running mean" in figure.caption


def test_figure_3_has_seeds_means_intervals_and_the_print(tmp_path):
    for seed, mse in enumerate((0.1, 0.2, 0.3)):
        write_run(tmp_path, paper_config("ETTh2", "S", 48, lip_coef=-2.0, seed=seed), mse)
    write_run(tmp_path, paper_config("ETTh2", "S", 48, lip_coef=4.0), 0.5)
    figure = drawn(tmp_path)["figure3-informer-ETTh2-S-feature-fp32"]
    titles = [axis.get_title() for axis in figure.drawing.axes]
    assert [title.split()[1] for title in titles] == ["24", "48", "168", "336", "720"]
    assert [title.endswith("no runs") for title in titles] == [True, False, True, True, True]
    assert titles[1].endswith("n = 1 to 3 seeds a point")
    found = lines(figure, 1)
    np.testing.assert_allclose(found["a seed, c < 0"], [[2, 2, 2], [0.1, 0.2, 0.3]])
    np.testing.assert_allclose(found["a seed, c > 0"], [[-4], [0.5]])
    printed = pd.read_csv(PAPER / "figure3.csv").query("pred_len == 48")
    np.testing.assert_allclose(found["printed"], printed[["lam", "mse"]].T)
    (bars,) = figure.drawing.axes[1].containers
    assert isinstance(bars, ErrorbarContainer)
    segments = bars.lines[2][0].get_segments()
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # t(0.975, 2) sd / sqrt(n)
    np.testing.assert_allclose(segments[-1], [[2, 0.2 - half], [2, 0.2 + half]])
    assert len(segments[0]) == 0  # one seed has no interval


def test_error_by_step_is_the_mean_over_seeds(tmp_path):
    for seed, mse in enumerate((0.1, 0.3)):
        config = paper_config("WTH", "S", 24, lip_coef=0.0, seed=seed)
        write_run(tmp_path, config, by_step={"mse": [mse * step for step in range(24)]})
    figure = drawn(tmp_path)["steps-informer-WTH-S-c0-fp32"]
    step, mse = lines(figure)["c = 0"]
    np.testing.assert_array_equal(step, np.arange(1, 25))
    np.testing.assert_allclose(mse, 0.2 * np.arange(24))


def test_windows_are_those_of_a_seed_that_all_signs_have(tmp_path):
    for c, seeds in ((-2.0, (1, 2)), (0.0, (0, 1, 2))):
        for seed in seeds:
            write_run(tmp_path, paper_config("ETTh2", "S", 24, lip_coef=c, seed=seed))
    figure = drawn(tmp_path)["windows-informer-ETTh2-S-feature-fp32-24-48-48"]
    assert "c = 0 seed 1, c < 0 seed 1" in figure.caption
    titles = [axis.get_title() for axis in figure.drawing.axes]
    assert titles[0] == "best, c = 0: MSE 0.004\n2017-11-01 00:00"
    assert titles[5] == "worst, c = −2: MSE 0.6\n2018-02-01 05:00"
    hours, truth = lines(figure)["truth"]
    np.testing.assert_array_equal(hours, np.arange(24))
    assert len(truth) == 24


def test_axes_precisions_and_normalisations_are_never_in_one_figure(tmp_path):
    for axis, amp, norm in itertools.product(("time", "feature"), ("off", "bf16"), ("max", "none")):
        own = {"lip_axis": axis, "amp": amp, "lip_norm": norm}
        write_run(tmp_path, paper_config("ETTh2", "S", 24, lip_coef=-2.0, **own))
    for amp in ("off", "bf16"):
        write_run(tmp_path, paper_config("ETTh2", "S", 24, lip_coef=0.0, amp=amp))
    figures = drawn(tmp_path)
    third = [figure for name, figure in figures.items() if name.startswith("figure3")]
    assert len(third) == 8
    for figure in third:
        assert lines(figure)["a seed, c < 0"].shape == (2, 1)
        assert lines(figure)["a seed, c = 0"].shape == (2, 1)
    for name, figure in figures.items():
        if name.startswith("figure2"):  # L_f of c = 0 was measured max-normalised
            assert ("c = 0, training" in lines(figure)) == ("lip_norm max" in figure.caption)


@pytest.mark.parametrize("kind", ODD)
def test_odd_inputs_are_drawn_and_said(tmp_path, kind):
    write_odd(tmp_path, kind)
    _, notes = usable_runs(read_runs(tmp_path), "truncated")
    figures = drawn(tmp_path)
    assert ODD[kind] in captions([*figures.values()], notes)
    none_used = kind == "empty" or ("Left out" in ODD[kind] and "version" not in kind)
    assert len(figures) == (2 if none_used else 4)  # without runs Figures 2 and 3, as printed


def test_no_results_folder_and_an_output_that_cannot_be_made(tmp_path, capsys):
    assert main(["--results", str(tmp_path / "none")]) == 2
    assert "no such folder; name the folder of runs with --results" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["--results", str(tmp_path), "--out", str(tmp_path / "file")]) == 2
    assert f"error: {tmp_path / 'file'}: cannot be made" in capsys.readouterr().err


def test_names_that_mean_something_to_others_are_drawn_as_they_are(tmp_path):
    config = paper_config("ETTh2", "S", 24, lip_coef=0.0, target="a$\\b{ <&")
    write_run(tmp_path, config, target="a$\\b{ <&")
    figure = drawn(tmp_path)["windows-informer-ETTh2-S-c0-fp32-24-48-48"]
    assert figure.drawing.axes[0].get_ylabel() == "a$\\b{ <& (original units)"
    ElementTree.fromstring(figure.render("svg"))


def test_other_results_versions_are_left_out(tmp_path):
    write_odd(tmp_path, "two versions")
    figure = drawn(tmp_path)["figure3-informer-ETTh2-S-c0-fp32"]
    np.testing.assert_allclose(lines(figure)["a seed, c = 0"], [[0], [0.2]])
    assert f"results version {RESULTS_VERSION + 1}" in figure.caption


def test_a_run_that_only_began_is_not_drawn(tmp_path):
    write_run(tmp_path, paper_config("ETTh2", "S", 24, lip_coef=0.0))
    start_run(tmp_path, paper_config("ETTh2", "S", 24, lip_coef=0.0, seed=1))
    figure = drawn(tmp_path)["figure3-informer-ETTh2-S-c0-fp32"]
    assert lines(figure)["a seed, c = 0"].shape == (2, 1)
