"""Diversity and ensembles of several settings: the table, the figure, and both as files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_lt.judging.losses import judged_of_result
from rebasin_lt.report.kit.figures import plain_axes, save_figures, styled_figure
from rebasin_lt.report.kit.methods import COLOURS, has_label, label_of
from rebasin_lt.report.kit.statistics import Estimate, mean, sample_std
from rebasin_lt.report.kit.tables import MISSING, Cell, Table, numbers, texts
from rebasin_lt.storage.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def show_diversity(result: Mapping[str, Any], out: str) -> str:
    """Write the table and the figure into the folder `out`; returns the table, and where both lie."""
    return "\n".join([diversity_table(result).to_text(), *map(str, write_diversity(result, out))]) + "\n"


def diversity_table(result: Mapping[str, Any]) -> Table:
    """One row per setting, as Table 1 of arXiv 2505.05143, with calibration; ± is the sample standard deviation.

    `result` is that of `analyses.diversity.measure`.
    """
    judged = judged_of_result(result)
    caption = f"{result['num_images']:,} test {judged.mean_over}; members: mean ± standard deviation; pairs: means"
    columns = [*texts("setting"), *numbers("members")]
    if judged.error is None:
        columns += numbers("member loss", decimals=4, spread="std")
        columns += numbers("ensemble loss", "squared difference of two", decimals=4)
        caption += f"; by {judged.label}"
    else:
        columns += numbers("member accuracy (%)", spread="std")
        columns += numbers("ensemble accuracy (%)")
        columns += numbers("disagreement", "KL (nats)", "JS (nats)", "member ECE", "ensemble ECE", decimals=4)
    return Table(columns, [_row(name, values) for name, values in result["settings"].items()], caption)


def diversity_figure(result: Mapping[str, Any], title: str = "Members and their ensemble") -> Figure:
    """One line per setting: the accuracy, or loss, of each member and the ensemble, and beside it the disagreement."""
    settings = result["settings"]
    height = _MARGINS + _LINE * len(settings)  # inches
    labels = [_lines(name) for name in settings]
    left = 0.05 + 0.017 * max(len(line) for label in labels for line in label)
    bottom, size = 0.62 / height, _LINE * len(settings) / height
    with styled_figure(_WIDTH, height) as figure:
        figure.text(0.02, 1 - 0.12 / height, title, va="top", fontsize=12.6, fontweight="bold")
        accuracies = figure.add_axes((left, bottom, 0.66 - left, size))
        disagreements = figure.add_axes((0.72, bottom, 0.17, size))
        _draw_accuracies(accuracies, settings)
        if (judged := judged_of_result(result)).error is None:
            accuracies.set_xlabel(f"test {judged.label}")
        _label_lines(accuracies, settings, labels)
        _draw_disagreements(disagreements, settings)
        for axes in (accuracies, disagreements):
            axes.set_ylim(len(settings) - 0.5, -0.5)
            axes.grid(False, axis="y")
            axes.grid(True, axis="x")
            plain_axes(axes)
        _draw_key(figure, 1 - 0.34 / height)
    return figure


def write_diversity(result: Mapping[str, Any], folder: Path | str) -> list[Path]:
    """Write table.csv, diversity.svg and diversity.png into `folder`; returns their paths."""
    folder = Path(folder)
    write_text(folder / "table.csv", diversity_table(result).to_csv())
    save_figures({"diversity": diversity_figure(result)}, folder)
    return [folder / name for name in ("table.csv", "diversity.svg", "diversity.png")]


_WIDTH, _LINE, _MARGINS = 5.0, 0.44, 1.36  # inches: the figure, one setting, all above and below them
_UPPER, _LOWER = 0.17, 0.15  # of a setting's height
_MEMBER: Any = {"marker": "o", "linestyle": "none", "markersize": 5.5, "markerfacecolor": "none"}
_ENSEMBLE: Any = {"marker": "D", "linestyle": "none", "markersize": 7}


def _row(name: str, values: Mapping[str, Any]) -> list[Cell]:
    scores, ensemble = _scores(values)
    spread = Estimate(mean(scores), sample_std(scores), len(scores))
    found: list[Cell] = [_label(name), len(scores), spread, ensemble]
    if "member_accuracy" not in values:
        return [*found, values["disagreement"]]
    pairs = [values[key] for key in ("disagreement", "kl", "js")]
    return [*found, *pairs, mean(values["member_ece"]), values["ensemble_ece"]]


def _scores(values: Mapping[str, Any]) -> tuple[list[float], float]:
    """The accuracy in percent of each member, and of the ensemble; of regressors their losses."""
    if "member_accuracy" not in values:
        return values["member_loss"], values["ensemble_loss"]
    return [100 * accuracy for accuracy in values["member_accuracy"]], 100 * values["ensemble_accuracy"]


def _draw_accuracies(axes: Axes, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Members above the line of their setting, the ensemble on it, and a stroke from their mean to it."""
    for line, (name, values) in enumerate(settings.items()):
        (members, ensemble), colour = _scores(values), _colour(name)
        axes.plot([mean(members), ensemble], [line + _LOWER] * 2, color=colour, linewidth=1.4)
        axes.plot([mean(members)], [line + _LOWER], "|", markersize=9, color=colour)
        axes.plot(members, [line - _UPPER] * len(members), **_MEMBER, markeredgecolor=colour)
        axes.plot([ensemble], [line + _LOWER], **_ENSEMBLE, color=colour)
    axes.margins(x=0.08)
    axes.set_xlabel("test accuracy (%)")


def _label_lines(axes: Axes, names: Iterable[str], labels: Sequence[Sequence[str]]) -> None:
    axes.set_yticks(range(len(labels)), ["\n".join(label) for label in labels])
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
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
    axes.set_yticks([])
    axes.set_xlabel("disagreement")


def _draw_key(figure: Figure, top: float) -> None:
    """What the marks are, under the heading."""
    from matplotlib.lines import Line2D

    ink = COLOURS["muted"][0]
    marks = [
        Line2D([], [], **_MEMBER, markeredgecolor=ink, label="member"),
        Line2D([], [], marker="|", linestyle="none", markersize=9, color=ink, label="their mean"),
        Line2D([], [], **_ENSEMBLE, color=ink, label="ensemble"),
    ]
    place: Any = {"loc": "upper left", "bbox_to_anchor": (0.0, top), "ncols": 3, "frameon": False}
    figure.legend(handles=marks, **place, handletextpad=0.1, columnspacing=1.2, borderaxespad=0, labelcolor=ink)


def _lines(name: str) -> list[str]:
    """The name of a setting on at most two lines."""
    return textwrap.wrap(_label(name), 14, max_lines=2, placeholder="…")


def _label(name: str) -> str:
    return label_of(name) if has_label(name) else name


def _colour(name: str) -> str:
    """Settings with names of their own are drawn in ink: a line has its name beside it."""
    base = name.partition("+")[0]  # one with signs is drawn as the same without
    return COLOURS.get("random_permutation" if base == "imp" else base, COLOURS["ink"])[0]
