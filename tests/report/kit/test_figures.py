"""Figures: what is drawn, what it looks like in light and dark, and that equal figures are equal bytes."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_lt.errors import InputError
from rebasin_lt.report.kit.figures import barrier_figure, figure_svg, save_figure, spread
from rebasin_lt.report.kit.methods import COLOURS

ALPHAS = np.linspace(0, 1, 11)
CURVES = {
    label: (ALPHAS.tolist(), (0.1 + height * ALPHAS * (1 - ALPHAS)).tolist())
    for label, height in {"before alignment": 4.1, "after alignment": 0.6}.items()
}


def test_barrier_figure_draws_the_curves() -> None:
    axes = barrier_figure(CURVES).axes[0]
    before, after = axes.lines
    assert before.get_ydata().max() == pytest.approx(0.1 + 4.1 / 4)
    assert after.get_ydata().max() == pytest.approx(0.1 + 0.6 / 4)


def test_barrier_figure_labels_curves_where_they_are() -> None:
    figure = barrier_figure(CURVES, quantity="test error (%)")
    before, after = figure.axes[0].texts
    assert (before.get_text(), after.get_text()) == ("before alignment", "after alignment")
    assert before.get_position()[1] > 0.1 + 4.1 / 4 > after.get_position()[1] > 0.1 + 0.6 / 4
    assert figure.axes[0].get_ylabel() == "test error (%)"
    assert "from A (0) to B (1)" in figure.axes[0].get_xlabel()


def test_barrier_figure_lists_labels_above_close_curves() -> None:
    curve = CURVES["before alignment"]
    figure = barrier_figure({"raw": curve, "BN reset": curve, "REPAIR": curve})
    heights = [text.get_position()[1] for text in figure.axes[0].texts]
    assert all(upper > lower for upper, lower in pairwise(heights))
    assert min(heights) > max(line.get_ydata().max() for line in figure.axes[0].lines)


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "there are 0 labels, expected 1 to 5"),
        ({str(index): CURVES["before alignment"] for index in range(6)}, "there are 6 labels, expected 1 to 5"),
    ],
)
def test_barrier_figure_rejects_curves_it_cannot_draw(curves: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        barrier_figure(curves)  # type: ignore[arg-type]


def test_svg_recolours_all_of_its_colours_in_the_dark() -> None:
    svg = figure_svg(barrier_figure(CURVES))
    style = re.search(r"<style>@media \(prefers-color-scheme: dark\)\{(.*)\}</style>", svg)
    assert style
    pattern = r"(fill|stroke): (#[0-9a-f]{6})"
    used = set(re.findall(pattern, svg.replace(style[0], "")))
    assert {"fill", "stroke"} == {kind for kind, _ in used}
    assert len({colour for _, colour in used} & {light for light, _ in COLOURS.values()}) >= 4
    assert used <= set(re.findall(pattern, style[1]))


def test_svg_is_transparent_text_without_outside_references() -> None:
    svg = figure_svg(barrier_figure(CURVES))
    root = ElementTree.fromstring(svg)
    found = {"".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"before alignment", "after alignment"} <= found
    assert "fill: #ffffff" not in svg
    assert "<image" not in svg
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', svg))


def test_svg_escapes_labels() -> None:
    svg = figure_svg(barrier_figure(CURVES, title="<script> & $x^2$"))
    assert "&lt;script&gt; &amp; $x^2$</text>" in svg


def drawn() -> str:
    return figure_svg(barrier_figure(CURVES))


def test_equal_figures_are_equal_bytes_in_another_process() -> None:
    script = f"import runpy, sys; sys.stdout.buffer.write(runpy.run_path({__file__!r})['drawn']().encode())"
    root = Path(__file__).parents[3]
    there = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=root).stdout
    assert there.decode() == drawn()


def test_saving_writes_svg_and_opaque_png(tmp_path: Path) -> None:
    figure = barrier_figure(CURVES)
    save_figure(figure, tmp_path / "new" / "barrier.svg")
    save_figure(figure, tmp_path / "new" / "barrier.png")
    assert (tmp_path / "new" / "barrier.svg").read_text(encoding="utf-8") == figure_svg(figure)
    pixels = mpl.image.imread(tmp_path / "new" / "barrier.png")
    assert pixels[0, 0].tolist() == [1, 1, 1, 1]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["barrier.png", "barrier.svg"]


def test_saving_rejects_other_formats(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in '.gif', expected .svg, .png or .pdf"):
        save_figure(barrier_figure(CURVES), tmp_path / "barrier.gif")
    assert list(tmp_path.iterdir()) == []


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    before = dict(mpl.rcParams)
    figure_svg(barrier_figure(CURVES))
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not mpl.pyplot.get_fignums()


def luminance(colour: str) -> float:
    channels = np.array([int(colour[index : index + 2], 16) for index in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    """WCAG 2 contrast ratio, 1 to 21."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", [name for name in COLOURS if name != "grid"])
def test_text_colours_are_legible_in_light_and_dark(name: str) -> None:
    light, dark = COLOURS[name]
    assert contrast(light, "#ffffff") >= 4.5
    assert contrast(dark, "#0d1117") >= 4.5


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(1, 5)), min_size=1, max_size=8),
)
def test_spread_separates_and_keeps_the_order(boxes: list[tuple[float, float]]) -> None:
    centres, heights = [centre for centre, _ in boxes], [height for _, height in boxes]
    placed = spread(centres, heights, -10, 110)
    order = np.argsort(centres, kind="stable")
    for lower, upper in pairwise(order):
        assert placed[upper] - placed[lower] >= (heights[upper] + heights[lower]) / 2 - 1e-9
    assert all(place - height / 2 + 1e-9 >= -10 for place, height in zip(placed, heights, strict=True))
    assert all(place + height / 2 <= 110 + 1e-9 for place, height in zip(placed, heights, strict=True))


def test_spread_moves_nothing_that_has_room() -> None:
    assert spread([50, 10, 30], [5, 5, 5], 0, 100) == pytest.approx([50, 10, 30])
    assert spread([50, 50], [4, 4], 0, 100) == pytest.approx([48, 52])
