"""Figures that read the same in light and dark: drawn with matplotlib's object API, saved as SVG and PNG.

The SVG is an ordinary light drawing on a transparent ground. A style block inside it recolours it, colour by colour,
where the reader prefers dark; that works inlined in a page and as an image in a README.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rebasin_lt.errors import InputError
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.storage.files import atomic_path, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SERIES = ("naive", "permuted", "lth", "random_permutation", "shuffled")  # curves without a method, in this order
_SIZE = (5.0, 3.6)  # inches; small, so that the text stays legible when a phone shows it 360 px wide
_FONT = 10.5  # pt
_LINE = 1.25  # line height of labels, in font sizes
_FONTS = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_STYLE: Any = {
    "font.family": ["DejaVu Sans"],  # matplotlib brings it, so the layout is the same on every machine
    "font.size": _FONT,
    "text.color": COLOURS["ink"][0],
    "text.parse_math": False,  # a $ in a label is a dollar
    "axes.edgecolor": COLOURS["muted"][0],
    "axes.labelcolor": COLOURS["muted"][0],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"][0],
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["muted"][0],
    "ytick.color": COLOURS["muted"][0],
    "pdf.fonttype": 42,  # TrueType, as journals ask for
    "svg.fonttype": "none",  # text stays text: searchable, and set in the reader's font
    "svg.hashsalt": "rebasin-lt",  # with no date, equal figures are equal bytes
}


def barrier_figure(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str = "Loss between the networks",
    quantity: str = "test loss (nats)",
) -> Figure:
    """A quantity along the line (1 - α) A + α B, in curves with their labels beside them.

    `curves` maps a label to (alphas, values). Values are drawn as they are, so give them in the unit that `quantity`
    states.
    """
    if not 1 <= len(curves) <= len(_SERIES):
        raise InputError(f"curves: there are {len(curves)} labels, expected 1 to {len(_SERIES)}")
    with figure_style():
        figure, axes = blank_figure(title, quantity, "interpolation coefficient α, from A (0) to B (1)", right=0.97)
        labels = []
        for (label, (alphas, values)), name in zip(curves.items(), _SERIES, strict=False):
            axes.plot(alphas, values, color=COLOURS[name][0], linewidth=2)
            labels.append((label, float(np.interp(0.5, alphas, values)), name))
        axes.margins(y=0.12)
        alpha_axis(axes)
        _label_curves(axes, labels)
    return figure


def figure_svg(figure: Figure) -> str:
    """The figure as SVG text that adapts to light and dark; equal figures give equal text."""
    buffer = io.StringIO()
    with figure_style():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = re.sub(r"('[^']*', )*'DejaVu Sans'(, [^;\"]*)?(?=[;\"])", _FONTS, buffer.getvalue())
    return text.replace("</defs>", _dark_style() + "</defs>", 1)


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write the figure as `.svg` (adaptive, transparent), `.png` (light, opaque, 200 dpi) or `.pdf` (light, its text
    as text), whole or not at all."""
    suffix = Path(path).suffix.lower()
    if suffix == ".svg":
        write_text(path, figure_svg(figure))
    elif suffix == ".png":
        with figure_style(), atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    elif suffix == ".pdf":
        with figure_style(), atomic_path(path) as temporary:
            about = {"Creator": None, "Producer": None, "CreationDate": None}  # equal figures are equal bytes
            figure.savefig(temporary, format="pdf", metadata=about)
    else:
        raise InputError(f"path: {str(path)!r} ends in {suffix!r}, expected .svg, .png or .pdf")


def save_figures(figures: Mapping[str, Figure], folder: Path | str) -> None:
    """Write every figure as `.svg` and `.png` into the folder, by its name."""
    for name, figure in figures.items():
        for suffix in ("svg", "png"):
            save_figure(figure, Path(folder) / f"{name}.{suffix}")


def spread(centres: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Centres moved as little as possible (least squares) so that boxes of these heights do not overlap in [low, high].

    Stacked boxes have fixed offsets from the first one, so this is isotonic regression of what is left, clipped to
    the range (pool adjacent violators). If the boxes cannot fit, they start at `low`.
    """
    order = np.argsort(centres, kind="stable")
    sizes = np.asarray(heights, dtype=float)[order]
    offsets = np.cumsum(sizes) - sizes / 2
    pools: list[tuple[float, int]] = []  # (mean, size), means ascending
    for value in np.asarray(centres, dtype=float)[order] - offsets:
        mean, size = float(value), 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    base = np.repeat([mean for mean, _ in pools], [size for _, size in pools])
    result = np.empty(len(order))
    result[order] = np.clip(base, low, max(low, high - sizes.sum())) + offsets
    return [float(value) for value in result]


def alpha_axis(axes: Axes) -> None:
    """The x axis of a line between two networks, from 0 to 1."""
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])


def plain_axes(axes: Axes) -> None:
    """Neither ticks nor a line on the left: the grid shows where values are."""
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


@contextmanager
def figure_style() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


@contextmanager
def styled_figure(width: float, height: float) -> Iterator[Figure]:
    """A new figure of so many inches, in the style of all figures, which holds within."""
    from matplotlib.figure import Figure

    with figure_style():
        yield Figure(figsize=(width, height))


def blank_figure(title: str, y_label: str, x_label: str, right: float) -> tuple[Figure, Axes]:
    """An empty plot: heading and y label read horizontally above it, `right` is where labels beside it may begin."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE)
    axes = figure.add_axes((0.085, 0.155, right - 0.085, 0.66))
    axes.set_title(title, loc="left", x=-0.0, pad=26, fontsize=_FONT * 1.2, fontweight="bold")
    axes.set_ylabel(y_label, rotation=0, ha="left", va="bottom")
    axes.yaxis.set_label_coords(0, 1.035)
    axes.set_xlabel(x_label)
    plain_axes(axes)
    return figure, axes


def _label_curves(axes: Axes, labels: Sequence[tuple[str, float, str]]) -> None:
    """Write each label above the middle of its curve; where curves run too close for that, a coloured list on top."""
    unit, (low, high) = _line_height(axes), axes.get_ylim()
    middles = sorted(middle for _, middle, _ in labels)
    apart = all(upper - lower > 1.8 * unit for lower, upper in pairwise(middles))
    axes.set_ylim(low, high + unit * (1.5 if apart else len(labels)))
    unit, top = _line_height(axes), axes.get_ylim()[1]
    for index, (text, middle, name) in enumerate(labels):
        height = middle + 0.5 * unit if apart else top - (index + 1) * unit
        axes.text(0.5, height, text, ha="center", va="bottom", color=COLOURS[name][0])


def _line_height(axes: Axes) -> float:
    """The height of one line of text, in the units of the y axis."""
    low, high = axes.get_ylim()
    return (high - low) / (axes.get_position().height * _SIZE[1] * 72) * _FONT * _LINE


def _dark_style() -> str:
    """Rules that swap every light colour for its dark one; `!important`, because matplotlib writes inline styles.

    No ancestor in the selectors: markers are drawn by <use>, whose copies have no ancestors to match.
    """
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in COLOURS.values()
        for kind in ("fill", "stroke")
    )
    return f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
