"""docs/results.md and the README's headline, filled with what the studies say, and their figures."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._page import between
from benchmarks.results_page import claims
from benchmarks.results_page.collect import measured_studies
from benchmarks.results_page.dots import Panel, dots_figure
from benchmarks.results_page.ensembles import ensembles_figures, ensembles_text
from benchmarks.results_page.measured import Measured
from benchmarks.results_page.networks import networks_text
from benchmarks.results_page.predictor import all_points, predictor_figure
from benchmarks.results_page.values import value
from benchmarks.results_page.verdicts import verdicts_table
from rebasin_lt.report.kit.figures import save_figure
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.report.study.accuracy_figures import accuracy_figures
from rebasin_lt.report.study.barriers import study_barrier_figures
from rebasin_lt.report.study.runs import group_runs
from rebasin_lt.storage.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

README_MARKER = "results"
SIGNS = Path(__file__).parents[1] / "results" / "signs.json"


def write_page(docs: Path, readme: Path | None = None) -> list[Path]:
    """Write docs/results.md, docs/images/results-*.svg and the README's part; returns the paths."""
    studies = {name: Measured.read(docs / "results" / name) for name in measured_studies(docs / "results")}
    tables = claims.tables(studies) | {"verdicts": verdicts_table(studies)}
    tables["not run"] = not_run_table(docs / "results" / "not_run.csv")
    texts = {name: table.to_markdown(markup=True) for name, table in tables.items()}
    points = all_points(studies, SIGNS)
    texts |= {"networks": networks_text(studies), "ensembles": ensembles_text(studies)}
    texts |= {"pairs": str(sum(map(len, points.values())))}
    written = []
    drawn = (
        figures(studies)
        | ensembles_figures(studies)
        | {"predictor": predictor_figure(points), "headline": headline_figure(studies)}
    )
    for name, figure in drawn.items():
        written.append(docs / "images" / f"results-{name}.svg")
        save_figure(figure, written[-1])
    page, short = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.md", "readme.md"))
    unused = sorted(set(texts) - set(_PLACEHOLDER.findall(page + short)))
    if unused:
        raise ValueError(f"no template shows the tables {', '.join(unused)}: show or delete them")
    write_text(docs / "results.md", filled(page, texts, studies))
    readme = readme or docs.parent / "README.md"
    part = filled(short, texts, studies).strip()
    write_text(readme, between(readme.read_text(encoding="utf-8"), README_MARKER, part))
    return [*written, docs / "results.md", readme]


def filled(template: str, texts: Mapping[str, str], studies: claims.Studies) -> str:
    """The template with every `{{name}}` replaced: by the text of that name, or else by a number (`values.value`).

    Raises ValueError for one that is neither.
    """

    def replaced(match: re.Match[str]) -> str:
        return texts[match[1]].strip() if match[1] in texts else value(studies, match[1])

    return _PLACEHOLDER.sub(replaced, template)


def figures(studies: claims.Studies) -> dict[str, Figure]:
    """The figures by name."""
    digits, conv4 = studies["digits"], studies["conv4"]
    lines = claims.barrier_records(studies["digits_width"], digits)
    return {
        "digits": _accuracies(digits, ("lth", "permuted", "permuted_paper", "naive")),
        "controls": _accuracies(
            digits, ("b_imp", "permuted", "b_magnitude", "random_permutation", "degree_preserving", "erk")
        ),
        "conv4": _accuracies(conv4, ("lth", "permuted", "permuted_paper", "naive", "b_magnitude")),
        "barriers": study_barrier_figures(lines)["barriers"],
    }


def headline_figure(studies: claims.Studies) -> Figure:
    """Of each network, the sparsest cell that has all methods, from its second rewind moment if there are several:
    masks and their accuracies, pair by pair."""
    panels = []
    for name, (title, methods) in _HEADLINE.items():
        if name in studies:
            whole = [place for place, group in studies[name].cells().items() if set(methods) <= set(group)]
            sparsest = [place for place in whole if place.sparsity == max(place.sparsity for place in whole)]
            panels.append(Panel(title, studies[name], sparsest[:2][-1], methods))
    return dots_figure("Masks for a new initialisation, pair by pair", panels)


def _accuracies(measured: Measured, methods: Sequence[str]) -> Figure:
    shown = [run for run in measured.outcome.sparse if run["method"] in methods]
    dense = {width: measured.dense(width) for width in measured.runs}
    drawn = accuracy_figures(group_runs(shown, measured.setting.rewinds), measured.setting, dense)
    (figure,) = drawn.values()
    return figure


def not_run_table(path: Path) -> Table:
    """The shipped studies that were not run, with their command and what the ledger says of them."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [Column("command", align="left"), *(Column(title) for title in ("stages", "epochs", "training images"))]
    columns.append(Column(f"hours on one core of {rows[0]['machine']}"))
    return Table(
        columns,
        [
            [
                f"`{row['command']}`",
                *(f"{int(row[name]):,}" for name in ("stages", "epochs", "images")),
                f"{float(row['core_hours']):,.0f}",
            ]
            for row in rows
        ],
    )


_HEADLINE = {
    "digits": ("MLP, digits", ("lth", "permuted", "permuted_paper", "b_magnitude", "naive")),
    "conv4": ("Conv-4×¼, Fashion-MNIST", ("lth", "permuted", "permuted_paper", "b_magnitude", "naive")),
    "resnet20": (
        "ResNet20×1, CIFAR-10 at 16×16",
        ("lth", "lth+mask", "permuted+mask", "early_2ep+mask", "permuted", "b_magnitude", "naive+mask", "naive"),
    ),
}
_TEMPLATES = Path(__file__).parent
_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}")
