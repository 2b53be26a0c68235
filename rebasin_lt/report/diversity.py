"""Diversity and ensembles of several settings: the table, the figure, and both as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_lt.files import write_text
from rebasin_lt.report.figures import COLOURS, figure_style, save_figure
from rebasin_lt.report.statistics import METHODS, Estimate, mean, sample_std
from rebasin_lt.report.tables import MISSING, Cell, Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {"imp": "IMP", **METHODS}


def diversity_table(result: Mapping[str, Any]) -> Table:
    """One row per setting, as Table 1 of arXiv 2505.05143, with calibration; ± is the sample standard deviation.

    `result` is that of `study.diversity.measure`.
    """
    columns = [
        Column("setting", align="left"),
        Column("members"),
        Column("member accuracy (%)", decimals=2, spread="std"),
        Column("ensemble accuracy (%)", decimals=2),
        Column("disagreement", decimals=4),
        Column("KL (nats)", decimals=4),
        Column("JS (nats)", decimals=4),
        Column("member ECE", decimals=4),
        Column("ensemble ECE", decimals=4),
    ]
    caption = f"{result['num_images']:,} test images; members: mean ± standard deviation; pairs: means"
    return Table(columns, [_row(name, values) for name, values in result["settings"].items()], caption)


def diversity_figure(result: Mapping[str, Any], title: str = "Members and their ensemble") -> Figure:
    """One line per setting: the accuracy of each member and of the ensemble, and beside it the disagreement."""
    from matplotlib.figure import Figure

    settings = result["settings"]
    height = _MARGINS + _LINE * len(settings)  # inches
    left = 0.05 + 0.017 * max(len(LABELS.get(name, name)) for name in settings)
    bottom, size = 0.62 / height, _LINE * len(settings) / height
    with figure_style():
        figure = Figure(figsize=(_WIDTH, height))
        figure.text(0.02, 1 - 0.12 / height, title, va="top", fontsize=12.6, fontweight="bold")
        accuracies = figure.add_axes((left, bottom, 0.66 - left, size))
        disagreements = figure.add_axes((0.72, bottom, 0.17, size))
        _draw_accuracies(accuracies, settings)
        _draw_disagreements(disagreements, settings)
        for axes in (accuracies, disagreements):
            axes.set_ylim(len(settings) - 0.5, -0.5)
            axes.grid(False, axis="y")
            axes.grid(True, axis="x")
            axes.tick_params(length=0)
            axes.spines["left"].set_visible(False)
        _draw_key(accuracies)
    return figure


def write_diversity(result: Mapping[str, Any], folder: Path | str) -> list[Path]:
    """Write table.csv, diversity.svg and diversity.png into `folder`; returns their paths."""
    folder = Path(folder)
    write_text(folder / "table.csv", diversity_table(result).to_csv())
    figure = diversity_figure(result)
    pictures = [folder / "diversity.svg", folder / "diversity.png"]
    for path in pictures:
        save_figure(figure, path)
    return [folder / "table.csv", *pictures]


_WIDTH, _LINE, _MARGINS = 5.0, 0.36, 1.42  # inches: the figure, one setting, all above and below them


def _row(name: str, values: Mapping[str, Any]) -> list[Cell]:
    accuracies = [100 * accuracy for accuracy in values["member_accuracy"]]
    spread = Estimate(mean(accuracies), sample_std(accuracies), len(accuracies))
    pairs = [values[key] for key in ("disagreement", "kl", "js")]
    calibration = [mean(values["member_ece"]), values["ensemble_ece"]]
    return [LABELS.get(name, name), len(accuracies), spread, 100 * values["ensemble_accuracy"], *pairs, *calibration]


def _draw_accuracies(axes: Axes, settings: Mapping[str, Mapping[str, Any]]) -> None:
    for line, (name, values) in enumerate(settings.items()):
        members, colour = [100 * accuracy for accuracy in values["member_accuracy"]], _colour(name)
        ensemble = 100 * values["ensemble_accuracy"]
        axes.plot([mean(members), ensemble], [line, line], color=colour, linewidth=1.4)
        axes.plot(members, [line] * len(members), "o", markersize=6, markerfacecolor="none", markeredgecolor=colour)
        axes.plot([ensemble], [line], "D", markersize=7.5, color=colour)
    axes.margins(x=0.08)
    axes.set_xlabel("test accuracy (%)")
    axes.set_yticks(range(len(settings)), [LABELS.get(name, name) for name in settings])
    for label, name in zip(axes.get_yticklabels(), settings, strict=True):
        label.set_color(_colour(name))


def _draw_disagreements(axes: Axes, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Bars with their values; no bar where a setting has a single member."""
    for line, (name, values) in enumerate(settings.items()):
        share = values["disagreement"]
        if share is not None:
            axes.barh([line], [share], height=0.45, color=_colour(name))
        text = MISSING if share is None else f"{share:.3f}"
        axes.annotate(
            text, (share or 0.0, line), (4, 0), textcoords="offset points", va="center", annotation_clip=False
        )
    axes.set_xlim(0, max([values["disagreement"] or 0.0 for values in settings.values()]) or 1.0)
    axes.set_xticks([])
    axes.set_xlabel("disagreement")


def _draw_key(axes: Axes) -> None:
    """What the two marks are, above the plot."""
    ink = COLOURS["muted"][0]
    axes.plot([], [], "o", markersize=6, markerfacecolor="none", markeredgecolor=ink, label="member")
    axes.plot([], [], "D", markersize=7.5, color=ink, label="ensemble")
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=2, frameon=False, handletextpad=0.1, columnspacing=1.2,
        labelcolor=ink,
    )  # fmt: skip


def _colour(name: str) -> str:
    return COLOURS.get(name, COLOURS["ink"])[0]
