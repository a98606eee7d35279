"""Figures drawn from folders of runs: their numbers, their words, and that all can be read."""

import itertools
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
from matplotlib.text import Text

from paper.figures import Figure, draw_all, main
from paper.runs import PRINTED, load, select_metrics
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
    return [axis.get_title() for axis in figure.drawing.axes]


def lines(figure: Figure, panel: int = 0) -> dict[str, np.ndarray]:
    """The labelled lines of a panel: [2, points] each; those of one label joined."""
    found: dict[str, list[np.ndarray]] = {}
    for line in figure.drawing.axes[panel].get_lines():
        found.setdefault(str(line.get_label()), []).append(np.array(line.get_data(), dtype=float))
    return {label: np.concatenate(parts, axis=1) for label, parts in found.items()}


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


def test_files_of_each_format_and_a_rebuild_gives_the_same_bytes(tmp_path, capsys):
    for c in (-2.0, 0.0):
        write_arm(tmp_path, c, [0.1, 0.2], arrays=True)
    write_run(tmp_path, 0.1, features="M")
    names = {f"{kind}-ETTh2-S" for kind in ("figure2", "figure3", "steps", "windows")}
    names |= {f"{kind}-ETTh2-M" for kind in ("figure2", "steps")}
    for form, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        words = ["--results", str(tmp_path), "--format", form, "--data", "ETTh2"]
        assert main(words) == 0
        command = [sys.executable, "-m", "paper.figures", *words, "--out", str(tmp_path / "again")]
        subprocess.run(command, cwd=ROOT, check=True)  # another process hashes otherwise
        assert "wrote 6 figures to" in capsys.readouterr().out
        files = {path.stem: path.read_bytes() for path in tmp_path.glob(f"figures/*.{form}")}
        assert files == {path.stem: path.read_bytes() for path in tmp_path.glob(f"again/*.{form}")}
        assert {*files} == names and all(content.startswith(start) for content in files.values())


def test_no_text_covers_another_and_arms_differ_without_colour(tmp_path):
    write_study(tmp_path)
    write_run(tmp_path, 0.1, 2.0, arrays=True, lip_axis="time")
    write_run(tmp_path, 0.1, -1e-6, arrays=True, lip_axis="feature")
    study = drawn(tmp_path)
    assert {name.split("-")[0] for name in study} == {"figure2", "figure3", "steps", "windows"}
    for figure in study.values():
        FigureCanvasAgg(figure.drawing).draw()
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
        assert len(boxes) > 20
        for (one, box), (other, box_too) in itertools.combinations(boxes, 2):
            assert not box.overlaps(box_too), (figure.name, one, other)
        handles = figure.drawing.legends[0].get_lines()
        looks = {(h.get_linestyle(), h.get_marker(), h.get_linewidth()) for h in handles}
        assert len(looks) == len(handles)
    words = {text.get_text() for text in texts_of(study["figure3-ETTh2-S"])}
    assert {"ETTh2 S: test MSE with LipReg", "c (the paper's λ is −c)", "−4", "−1e−6"} <= words
    assert titles(study["figure3-ETTh2-S"]) == [
        "24 steps (48/48), feature axis, n = 1 to 3",
        "24 steps (48/48), time axis, n = 1",
        "336 steps (336/168), feature axis, n = 3",
    ]


def test_figure_3_has_paired_changes_by_seed_their_interval_and_the_print(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.2, 0.3, None], arrays=True)
    write_arm(tmp_path, -2.0, [0.11, 0.18, 0.33, 0.9], arrays=True)  # the last has no pair
    write_arm(tmp_path, 32.0, [None, 0.4], arrays=True)
    write_run(tmp_path, None, 4.0, status="failed")
    figure = drawn(tmp_path)["figure3-ETTh2-S"]
    assert "Grey: the paper's Figure 3" in figure.caption
    found, panel = lines(figure), figure.drawing.axes[0]
    np.testing.assert_allclose(found["one seed"][1], [10, -10, 10, 100])
    np.testing.assert_allclose(found["one seed"][0], [2.88, 2.88, 2.88, 10.88])  # places of -2, +32
    d = np.log([1.1, 0.9, 1.1])
    half = 4.302652729911275 * np.std(d, ddof=1) / np.sqrt(3)  # t(0.975, 2) sd / sqrt(n)
    several, alone = (
        bars.lines[2][0].get_segments()[0]
        for bars in panel.containers
        if isinstance(bars, ErrorbarContainer)
    )
    np.testing.assert_allclose(several[:, 1], 100 * np.expm1([d.mean() - half, d.mean() + half]))
    assert alone.size == 0  # one seed has no interval
    printed = pd.read_csv(PRINTED / "figure3.csv").query("pred_len == 24").set_index("lam")["mse"]
    assert found["printed"][1, 2] == pytest.approx(100 * (printed[-3] / printed[0] - 1))
    assert found["printed"][0].tolist() == [*range(11)][::-1]  # λ = -5 is c = 5
    low, high = panel.get_ylim()
    assert low < -10 and 100 < high < 115  # intervals do not stretch the axis


def test_figure_2_has_one_run_as_it_is_and_the_mean_apart(tmp_path):
    for seed, (level, epochs) in enumerate(((0.1, 2), (0.3, 4))):  # seed 0 stops after two epochs
        folder = write_run(tmp_path, 0.1, -2.0, seed, arrays=True)
        epoch = np.arange(1, 20 * epochs + 1) / 20
        write_npz(folder / "trace.npz", {"epoch": epoch, "l_f": level + 0.01 * (epoch % 0.1)})
    write_run(tmp_path, model="autoformer", train_epochs=10, arrays=True)
    figures = drawn(tmp_path)
    other, figure = figures["figure2-ETTh2-S-autoformer"], figures["figure2-ETTh2-S"]
    assert {*lines(other)} == {"c = 0"} and "Grey" not in other.caption  # the print is Informer's
    assert "Grey: the paper's Figure 2" in figure.caption
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
    left, right = titles(figure)
    assert left.endswith("one run each, seed 0") and right.endswith("mean, n = 2")


def test_steps_are_paired_changes_beside_the_errors_and_the_baselines(tmp_path):
    slope = np.linspace(0.9, 1.1, 24)
    for seed, (c, steps) in itertools.product(range(2), ((0.0, np.ones(24)), (2.0, slope))):
        folder = write_run(tmp_path, 0.1, c, seed, data="WTH", arrays=True)
        body = read_json(folder / "metrics.json")
        body["by_step"]["mse"] = list((1 + seed) * steps)
        body["baselines"]["ridge"]["by_step"] = {"mse": [0.5] * 24}
        write_json(folder / "metrics.json", body)
    figure = drawn(tmp_path)["steps-WTH-S"]
    np.testing.assert_allclose(lines(figure)["c = +2"][1], 1.5 * slope)
    np.testing.assert_allclose(lines(figure)["ridge"][1], 0.5)
    np.testing.assert_allclose(lines(figure, 1)["c = +2"][1], np.linspace(-10, 10, 24), atol=1e-9)


def test_windows_are_the_same_for_every_c_and_the_seed_is_shared(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.1], arrays=True, target="a$\\b{ <&", data="ETTh1")
    write_arm(tmp_path, -2.0, [None, 0.1], arrays=True, target="a$\\b{ <&", data="ETTh1")
    (figure,) = (f for name, f in drawn(tmp_path).items() if name.startswith("windows"))
    starts = [f"from 2017-11-{start}:00" for start in ("06 05", "07 21", "09 13")]
    assert [title.split("\n")[1] for title in titles(figure)] == starts
    found = lines(figure)
    np.testing.assert_allclose(found["c = 0"][1, 1:] - found["c = −2"][1, 1:], 1)  # as records says
    truth = found["history and truth"][1, -24:]
    np.testing.assert_allclose(found["c = 0"][1, 1:], truth + np.cos(np.arange(24) / 9 + 1))
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
        assert len(set(titles(figures[name]))) == len(titles(figures[name])) == 4
        assert all(lines(figures[name], i)["one seed"].shape == (2, 1) for i in range(4))
    for i, title in enumerate(titles(figures["figure2-ETTh2-S"])):
        measured_alike = "lip_norm none" not in title  # c = 0 was max-normalised
        assert ("c = 0" in lines(figures["figure2-ETTh2-S"], i)) == measured_alike


@pytest.mark.parametrize("file", ["trace.npz", "samples.npz", "history.json"])
def test_a_missing_file_is_named_and_the_rest_is_drawn(tmp_path, file):
    damage(write_run(tmp_path, 0.1, arrays=True), f"no {file}")
    write_run(tmp_path, 0.1, -2.0, arrays=True)
    figures = drawn(tmp_path, gap=file)
    assert ("windows-ETTh2-S" in figures) == (file != "samples.npz")


def test_no_runs_and_an_output_that_cannot_be_made(tmp_path, capsys):
    write_run(tmp_path, status="unfinished")
    assert main(["--results", str(tmp_path)]) == 0
    assert "wrote 0 figures" in capsys.readouterr().out
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        main(["--results", str(tmp_path), "--out", str(tmp_path / "file")])
