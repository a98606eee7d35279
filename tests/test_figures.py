"""Figures drawn from folders of runs: their numbers, their words, and that all can be read."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Text

from paper.figures import Figure, draw_all, main
from paper.runs import load, select_metrics
from tests.records import damage, eval_l_f, write_arm, write_run, write_study
from tests.runs import ROOT
from utils import plots
from utils.files import UserError, read_json, write_json, write_npz


def drawn(results: Path, gap: str = "") -> dict[str, Figure]:
    """Draw all figures, by name; one file is missing whose name has `gap` in it, or none is."""
    runs = load(results)
    figures, gaps = draw_all(runs, select_metrics(runs.frame))
    assert len({figure.name for figure in figures}) == len(figures)
    assert len(gaps) == bool(gap) and all(gap in line for line in gaps)
    return {figure.name: figure for figure in figures}


def titles(figure: Figure) -> list[str]:
    return [axis.get_title().replace("\n", " ") for axis in figure.drawing.axes]


def ticks(figure: Figure, panel: int = 0) -> list[str]:
    return [tick.get_text() for tick in figure.drawing.axes[panel].get_xticklabels()]


def lines(figure: Figure, panel: int = 0) -> dict[str, np.ndarray]:
    """The labelled lines of a panel: [2, points] each; those of one label joined."""
    found: dict[str, list[np.ndarray]] = {}
    for line in figure.drawing.axes[panel].get_lines():
        found.setdefault(str(line.get_label()), []).append(np.array(line.get_data(), dtype=float))
    return {label: np.concatenate(parts, axis=1) for label, parts in found.items()}


def intervals(figure: Figure, panel: int = 0) -> list[np.ndarray]:
    bars = figure.drawing.axes[panel].containers
    return [b.lines[2][0].get_segments()[0] for b in bars if isinstance(b, ErrorbarContainer)]


def texts_of(figure: Figure) -> list[Text]:
    """Every text that is drawn; ticks beyond an axis' ends are not."""
    (legend,) = figure.drawing.legends
    found = [*legend.get_texts(), *figure.drawing.texts]
    for panel in figure.drawing.axes:
        found += [panel.title, panel.xaxis.label, panel.yaxis.label]
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            found += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    return [text for text in found if text.get_text()]


def test_files_of_each_format_and_a_rebuild_under_a_notebooks_backend_gives_the_same(tmp_path):
    for c in (-2.0, 0.0):
        write_arm(tmp_path, c, [0.1, 0.2], arrays=True)
    write_run(tmp_path, 0.1, features="M")  # compared with nothing: not drawn
    write_run(tmp_path, 0.1, -8.0, pred_len=48)
    backend = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    for form, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        argv = ["--results", str(tmp_path), "--format", form, "--data", "ETTh2"]
        assert main(argv) == 0
        files = {path.stem: path.read_bytes() for path in tmp_path.glob(f"figures/*.{form}")}
        assert {*files} == {"changes", "figure2-ETTh2-S", "steps-ETTh2-S", "windows-ETTh2-S"}
        assert all(content.startswith(start) for content in files.values())
        if form == "svg":
            command = [sys.executable, "-m", "paper.figures", *argv, "--out", f"{tmp_path}/again"]
            subprocess.run(command, cwd=ROOT, check=True, env=backend)  # hashes otherwise, too
            again = {path.stem: path.read_bytes() for path in tmp_path.glob("again/*.svg")}
            assert files == again


def test_no_text_covers_another_and_arms_differ_without_colour(tmp_path):
    write_study(tmp_path)
    write_run(tmp_path, 0.1, 2.0, arrays=True, lip_axis="time")
    for data, n, c in itertools.product(("ETTh1", "ETTh2"), (24, 48, 168), (0.0, -2.0)):
        write_run(tmp_path, 0.1 + n / 1000 + c / 200, c, data=data, features="M", pred_len=n)
    runs = load(tmp_path)
    study, gaps = draw_all(runs, select_metrics(runs.frame))
    assert len(gaps) == 6 and gaps[-1].startswith("And ")  # M's files, of which some are named
    for figure in study:
        FigureCanvasAgg(figure.drawing).draw()
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
        for (one, box), (other, box_too) in itertools.combinations(boxes, 2):
            assert not box.overlaps(box_too), (figure.name, one, other)
        handles = figure.drawing.legends[0].get_lines()
        looks = {(h.get_linestyle(), h.get_marker(), h.get_linewidth()) for h in handles}
        assert len(looks) == len(handles)


def test_every_cell_has_its_seeds_its_interval_and_the_published_change(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.2, 0.3, None])
    write_arm(tmp_path, -2.0, [0.11, 0.18, 0.33, 0.9])  # the last has no pair
    for c, mse in ((0.0, 0.7), (-2.0, 0.6)):
        write_arm(tmp_path, c, [mse, mse], features="M")
    write_run(tmp_path, None, 4.0, status="failed")
    runs = load(tmp_path)
    figure, *_ = draw_all(runs, select_metrics(runs.frame))[0]
    assert titles(figure) == ["S, MSE − 2 Lip, feature axis", "M, MSE − 2 Lip, feature axis"]
    assert ticks(figure) + ticks(figure, 1) == ["ETTh2 S 24\nn = 3", "ETTh2 M 24\nn = 2"]
    s, m = lines(figure), lines(figure, 1)
    np.testing.assert_allclose(s["one seed"][1], [10, -10, 10])
    np.testing.assert_allclose(s["one seed"][0], -0.02)
    np.testing.assert_allclose(s["published change"], [[0], [100 * (0.08626 / 0.09309 - 1)]])
    np.testing.assert_allclose(m["published change"], [[0], [100 * (0.33658 / 0.72025 - 1)]])
    d = np.log([1.1, 0.9, 1.1])
    half = 4.302652729911275 * np.std(d, ddof=1) / np.sqrt(3)  # t(0.975, 2) sd / sqrt(n)
    bounds = 100 * np.expm1([d.mean() - half, d.mean() + half])
    np.testing.assert_allclose(intervals(figure)[0][:, 1], bounds)
    assert intervals(figure, 1) == []  # too few seeds to tell
    low, high = figure.drawing.axes[0].get_ylim()
    assert low < bounds[0] and bounds[1] < high  # none is clipped


def test_l_f_is_a_running_mean_over_runs_as_far_as_all_go(tmp_path):
    for seed, (level, epochs) in enumerate(((0.1, 2), (0.3, 4))):  # seed 0 stops after two epochs
        write_run(tmp_path, 0.1, 0.0, seed, arrays=True)
        folder = write_run(tmp_path, 0.1, -2.0, seed, arrays=True)
        epoch = np.arange(1, 100 * epochs + 1) / 100
        ripple = 0.01 * np.cos(np.arange(len(epoch)) * np.pi / 4)  # from bin to bin
        write_npz(folder / "trace.npz", {"epoch": epoch, "l_f": level + ripple})
    figure = drawn(tmp_path)["figure2-ETTh2-S"]
    training, evaluation = lines(figure, 0), lines(figure, 1)
    epoch, l_f = training["trained on MSE − 2 Lip"]
    assert epoch.max() == pytest.approx(1.98)  # a bin's middle
    np.testing.assert_allclose(l_f[10:-10], 0.2, atol=0.003)
    np.testing.assert_allclose(evaluation["trained on MSE − 2 Lip"][1], eval_l_f(-2.0))
    assert training["published, MSE − λ Lip"][1][-1] == pytest.approx(0.34, abs=0.02)
    assert not any("published" in label for label in evaluation)
    assert titles(figure) == ["ETTh2 S 24, MSE − 2 Lip, feature axis, n = 2"] * 2


def test_steps_are_paired_changes_beside_the_errors_and_the_baselines(tmp_path):
    slope = np.linspace(0.9, 1.1, 24)
    for seed, (c, steps) in itertools.product(range(3), ((0.0, np.ones(24)), (2.0, slope))):
        folder = write_run(tmp_path, 0.1, c, seed, data="WTH", arrays=True)
        body = read_json(folder / "metrics.json")
        body["by_step"]["mse"] = list((1 + seed) * steps ** (1 + seed))
        body["baselines"]["ridge"]["by_step"] = {"mse": [0.5] * 24}
        write_json(folder / "metrics.json", body)
    figure = drawn(tmp_path)["steps-WTH-S"]
    np.testing.assert_allclose(lines(figure)["trained on MSE"][1], 2)
    np.testing.assert_allclose(lines(figure)["ridge"][1], 0.5)
    mean = 100 * (slope**2 - 1)
    np.testing.assert_allclose(lines(figure, 1)["trained on MSE + 2 Lip"][1], mean, atol=1e-9)
    panel = figure.drawing.axes[1]
    (band,) = panel.collections
    bottom, top = panel.get_ylim()
    ends = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert bottom < ends.min() < mean.min() and mean.max() < ends.max() < top  # it fits


def test_only_runs_of_the_same_seeds_and_dose_share_a_panel(tmp_path):
    write_arm(tmp_path, 0.0, [0.1] * 4, data="WTH", arrays=True)
    for c, values in ((-2.0, [0.1] * 2), (2.0, [None, None, 0.1, 0.1]), (4.0, [0.1] * 2)):
        write_arm(tmp_path, c, values, data="WTH", arrays=True)
    figure = drawn(tmp_path)["figure2-WTH-S"]
    for i, loss in enumerate(("MSE − 2 Lip", "MSE + 2 Lip", "MSE + 4 Lip")):
        assert titles(figure)[2 * i] == f"WTH S 24, {loss}, feature axis, n = 2"
        found = {label for label in lines(figure, 2 * i) if label.startswith("trained")}
        assert found == {"trained on MSE", f"trained on {loss}"}


def test_windows_show_the_forecast_without_lip_and_what_lip_adds_to_it(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.1], arrays=True, target="a$\\b{ <&", data="ETTh1")
    write_arm(tmp_path, -2.0, [None, 0.1], arrays=True, target="a$\\b{ <&", data="ETTh1")
    (figure,) = (f for name, f in drawn(tmp_path).items() if name.startswith("windows"))
    starts = [f"from 2017-11-{start}:00, seed 1" for start in ("06 05", "07 21", "09 13")]
    assert titles(figure) == [*starts, *["ETTh1 S 24, MSE − 2 Lip, feature axis, n = 1"] * 3]
    above, below = lines(figure), lines(figure, 3)
    truth = above["history and truth"][1, -24:]
    np.testing.assert_allclose(above["forecast"][1, 1:], truth + np.cos(np.arange(24) / 9 + 1))
    np.testing.assert_allclose(below["trained on MSE − 2 Lip"][1], -1)  # as tests.records says
    assert figure.drawing.axes[0].get_xlim() == figure.drawing.axes[3].get_xlim()
    assert figure.drawing.axes[0].get_ylabel() == "a$\\b{ <&"
    ElementTree.fromstring(plots.render(figure.drawing, "svg"))


def test_axes_precisions_and_normalisations_are_never_in_one_column(tmp_path):
    for axis, amp, norm in itertools.product(("time", "feature"), ("off", "bf16"), ("max", "none")):
        own: dict[str, Any] = {"lip_axis": axis, "amp": amp, "lip_norm": norm}
        write_run(tmp_path, 0.1, -2.0, arrays=True, **own)
    for amp in ("off", "bf16"):
        write_run(tmp_path, 0.1, 0.0, arrays=True, amp=amp)
    figures = drawn(tmp_path)
    assert (
        len(set(ticks(figures["changes"]))) == lines(figures["changes"])["one seed"].shape[1] == 8
    )
    for i, title in enumerate(titles(figures["figure2-ETTh2-S"])):
        measured_alike = "lip_norm none" not in title  # c = 0 was max-normalised
        found = lines(figures["figure2-ETTh2-S"], i)
        assert ("trained on MSE" in found) == measured_alike


@pytest.mark.parametrize("file", ["trace.npz", "samples.npz", "history.json"])
def test_a_missing_file_is_named_and_the_rest_is_drawn(tmp_path, file):
    damage(write_run(tmp_path, 0.1, arrays=True), f"no {file}")
    write_run(tmp_path, 0.1, -2.0, arrays=True)
    figures = drawn(tmp_path, gap=file)
    assert ("windows-ETTh2-S" in figures) == (file != "samples.npz")


def test_no_pair_and_an_output_that_cannot_be_made(tmp_path, capsys):
    write_run(tmp_path, 0.1, -2.0)
    assert main(["--results", str(tmp_path)]) == 0
    assert "No figure: no run with Lip has the seed of one without." in capsys.readouterr().out
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        main(["--results", str(tmp_path), "--out", str(tmp_path / "file")])
