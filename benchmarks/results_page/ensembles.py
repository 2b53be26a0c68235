"""Ensembles from one mask on a network of the paper's: the layout of its Table 1, and what each member costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmarks.results_page.measured import Measured
from rebasin_lt.report.study.diversity import study_diversity_table
from rebasin_lt.report.study.frontier import Worth, frontier_figures, worth_table, worths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENSEMBLES = "resnet20_diversity"
"""The study of them."""


def ensembles_text(studies: Mapping[str, Measured]) -> str:
    """Its command, figure and tables, as Markdown."""
    if not _measured(studies):
        return "On ResNet20 they are [not measured yet](#not-run-here)."
    measured = studies[ENSEMBLES]
    outcome, setting = measured.outcome, measured.setting
    tables = [study_diversity_table(outcome.diversity, setting), worth_table(_found(measured), outcome.prices, setting)]
    head = f"On ResNet20, by `{measured.command}`:"
    picture = "![Accuracy of members against their disagreement, a point per mask with its price, on ResNet20]"
    return "\n\n".join([
        head,
        f"{picture}(images/results-ensembles.svg)",
        *(table.to_markdown(markup=True).strip() for table in tables),
    ])


def ensembles_figures(studies: Mapping[str, Measured]) -> dict[str, Figure]:
    """Accuracy against disagreement, with prices, if they are measured."""
    if not _measured(studies):
        return {}
    (figure,) = frontier_figures(_found(studies[ENSEMBLES]), studies[ENSEMBLES].setting).values()
    return {"ensembles": figure}


def _measured(studies: Mapping[str, Measured]) -> bool:
    """Whether any is: pairs are whole, and shown, before the members of ensembles are trained."""
    return ENSEMBLES in studies and bool(studies[ENSEMBLES].outcome.diversity)


def _found(measured: Measured) -> list[Worth]:
    outcome = measured.outcome
    return worths(measured.runs, outcome.diversity, outcome.prices, measured.setting)
