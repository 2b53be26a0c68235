"""What aligning experts found, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rebasin_lt.judging.losses import judged_of_result
from rebasin_lt.report.kit.statistics import times
from rebasin_lt.report.kit.tables import Cell, Table, numbers, texts


def show_experts(result: Mapping[str, Any], out: str) -> str:
    """The tables, of similarity and of losses where they were measured, and where the files lie."""
    parts = [mixtures_table(result).to_text()]
    if "losses" in result:
        parts.append(expert_losses_table(result).to_text())
    return "\n".join(parts)


def mixtures_table(result: Mapping[str, Any]) -> Table:
    """One row per mixture: experts, hidden units, and how alike experts are to one of them, before and after."""
    rows: list[list[Cell]] = [
        [name, found["experts"], found["hidden_units"], found["before"], found["after"]]
        for name, found in result["mixtures"].items()
    ]
    columns = [*texts("mixture"), *numbers("experts", "hidden units"), *numbers("before", "after", decimals=4)]
    caption = f"Cosine of experts' weights with those of expert {result['expert']}, aligned by {result['by']}"
    return Table(columns, rows, caption)


def expert_losses_table(result: Mapping[str, Any]) -> Table:
    """One row per network: loss on the test set, and error if there is one."""
    judged = judged_of_result(result)
    unit = f" ({judged.unit})" if judged.unit else ""
    columns = [*texts("network"), *numbers(f"loss{unit}", decimals=4)]
    columns += [] if judged.error is None else numbers("error (%)")
    rows = [
        [name, found["loss"], times(100, found["error"])][: len(columns)] for name, found in result["losses"].items()
    ]
    return Table(columns, rows, f"On the test set, by {judged.label}")
