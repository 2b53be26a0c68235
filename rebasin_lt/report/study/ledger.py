"""What a study has trained and what is left to train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rebasin_lt.report.kit.tables import Cell, Table, numbers, records_table, texts

_NAMED = 5
"""How many stages a sentence names."""


def ledger_table(stages: Sequence[dict[str, Any]]) -> Table:
    """One row per kind of stage, and one for all: stages, epochs and training examples, done and in total; and where
    they are known, the hours of training that are left to one worker.

    Of data whose number of examples is not known without preparing it, none is told.
    """
    kinds = list(dict.fromkeys(stage["kind"] for stage in stages))
    rows = [_row(kind, [stage for stage in stages if stage["kind"] == kind]) for kind in kinds]
    columns = texts("stage")
    columns += numbers(*(f"{what}{end}" for what in ("stages", "epochs", "examples") for end in (" done", " in all")))
    if any("hours" in stage for stage in stages):
        columns += numbers("hours left")
    return Table(columns, [*rows, _row("all", stages)])


def stages_table(stages: Sequence[dict[str, Any]]) -> Table:
    """One row per stage, for spreadsheets."""
    names = ["kind", "path", "epochs", "images", "done", *(["diverged"] if diverged(stages) else [])]
    return records_table(names, [{"diverged": False, **stage} for stage in stages])


def progress_text(stages: Sequence[dict[str, Any]]) -> str:
    """`12 of 60 stages`, and how many diverged."""
    text = f"{sum(stage['done'] for stage in stages)} of {len(stages)} stages"
    count = len(diverged(stages))
    return f"{text}, {count} diverged" if count else text


def diverged(stages: Sequence[dict[str, Any]]) -> list[str]:
    """The paths of those whose training diverged, or whose numbers are not finite."""
    return [stage["path"] for stage in stages if stage.get("diverged")]


def divergence_text(stages: Sequence[dict[str, Any]]) -> str:
    """What a report says of them: how many, that nothing counts them, and which; empty if there are none."""
    paths = diverged(stages)
    if not paths:
        return ""
    many = len(paths) > 1
    return (
        f"{len(paths)} of {len(stages)} stages diverged: {'their' if many else 'its'} loss or weights are no finite "
        f"numbers any more. {'They are' if many else 'It is'} in no mean and no count of seeds here, and what needs "
        f"{'them' if many else 'it'} is missing: {', '.join(paths[:_NAMED])}{', …' if len(paths) > _NAMED else ''}."
    )


def _row(name: str, stages: Sequence[dict[str, Any]]) -> list[Cell]:
    done = [stage for stage in stages if stage["done"]]
    totals: list[Cell] = [len(done), len(stages)]
    for what in ("epochs", "images"):
        known = all(stage[what] is not None for stage in stages if stage["epochs"])
        totals += [f"{sum(stage[what] or 0 for stage in some):,}" if known else None for some in (done, stages)]
    if any("hours" in stage for stage in stages):
        totals.append(float(sum(stage["hours"] for stage in stages if not stage["done"])))
    return [name.replace("_", " "), *totals]
