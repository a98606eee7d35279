"""Figures drawn from folders of runs: their numbers, and what stands where one is missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from paper.figures import draw_all, main
from paper.runs import load, select_metrics
from tests.records import damage, write_arm, write_run
from utils.files import UserError
from utils.plots import Figure


def drawn(results: Path) -> dict[str, Figure]:
    runs = load(results)
    return draw_all(runs, select_metrics(runs.frame))


def titles(figure: Figure) -> list[str]:
    return [axis.get_title().replace("\n", " ") for axis in figure.axes]


def lines(axis: Any) -> dict[str, np.ndarray]:
    """The labelled lines of a panel: [2, points] each; those of one label joined."""
    found: dict[str, list[np.ndarray]] = {}
    for line in axis.get_lines():
        found.setdefault(str(line.get_label()), []).append(np.array(line.get_data(), dtype=float))
    return {label: np.concatenate(parts, axis=1) for label, parts in found.items()}


def test_every_cell_has_its_seeds_its_interval_and_the_published_change(tmp_path):
    write_arm(tmp_path, 0.0, [0.1, 0.2, 0.3, None])
    write_arm(tmp_path, -2.0, [0.11, 0.18, 0.33, 0.9])  # the last has no pair
    for c, mse in ((0.0, 0.7), (-2.0, 0.6)):
        write_arm(tmp_path, c, [mse, mse], features="M")
    write_run(tmp_path, None, 4.0, status="failed")
    figure = drawn(tmp_path)["changes"]
    assert titles(figure) == ["S", "M"]
    one, other = figure.axes
    names = [tick.get_text() for axis in figure.axes for tick in axis.get_xticklabels()]
    assert names == ["ETTh2 S 24\nn = 3", "ETTh2 M 24\nn = 2"]
    s, m = lines(one), lines(other)
    np.testing.assert_allclose(s["one seed"], [[-0.02] * 3, [10, -10, 10]])
    np.testing.assert_allclose(s["published change"], [[0], [100 * (0.08626 / 0.09309 - 1)]])
    np.testing.assert_allclose(m["published change"], [[0], [100 * (0.33658 / 0.72025 - 1)]])
    d = np.log([1.1, 0.9, 1.1])
    half = 4.302652729911275 * np.std(d, ddof=1) / np.sqrt(3)  # t(0.975, 2) sd / sqrt(n)
    bounds = 100 * np.expm1([d.mean() - half, d.mean() + half])
    (bar,) = (b for b in one.containers if isinstance(b, ErrorbarContainer))
    np.testing.assert_allclose(bar.lines[2][0].get_segments()[0][:, 1], bounds)
    assert not other.containers  # too few seeds to tell


def test_l_f_is_a_running_mean_over_runs_beside_the_published_curve(tmp_path):
    for c in (-2.0, 0.0):
        write_arm(tmp_path, c, [0.1, 0.2], arrays=True)
    write_arm(tmp_path, -2.0, [0.1], arrays=True, lip_norm="none")  # c = 0 was max-normalised
    figure = drawn(tmp_path)["figure2-ETTh2"]
    assert titles(figure)[0] == "ETTh2 S 24, n = 2"
    found = lines(figure.axes[0])
    epoch, lip = found["with Lip"]
    assert epoch[[0, -1]] == pytest.approx([0.02, 5.98])  # a bin's middle
    np.testing.assert_allclose(lip[-20:], 0.15 + 0.02, atol=0.003)  # as tests.records says
    np.testing.assert_allclose(found["MSE"][1][-20:], 0.15, atol=0.003)
    assert found["published, MSE − λ Lip"][1][-1] == pytest.approx(0.34, abs=0.02)
    assert "MSE" not in lines(figure.axes[1]) and "with Lip" in lines(figure.axes[1])
    damage(next(tmp_path.glob("informer*")), "no trace.npz")
    assert any(
        "trace.npz: not there" in title for title in titles(drawn(tmp_path)["figure2-ETTh2"])
    )


def test_files_of_each_format_and_an_output_that_cannot_be_made(tmp_path, capsys):
    write_run(tmp_path, 0.1, -2.0, arrays=True)
    assert main(["--results", str(tmp_path)]) == 0
    assert "wrote 0 figures" in capsys.readouterr().out  # no run without Lip has the seed
    write_run(tmp_path, 0.1, arrays=True)
    for form, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        argv = ["--results", str(tmp_path), "--format", form, "--data", "ETTh2"]
        files, written = {}, []
        for _ in range(2):  # equal numbers, equal bytes
            assert main(argv) == 0
            files = {path.stem: path.read_bytes() for path in tmp_path.glob(f"figures/*.{form}")}
            written.append(files)
        assert {*files} == {"changes", "figure2-ETTh2"} and written[0] == written[1]
        assert all(content.startswith(start) for content in files.values())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        main(["--results", str(tmp_path), "--out", str(tmp_path / "file")])
