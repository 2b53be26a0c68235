"""What is known of masks before anything is trained under them, as a table and one sentence for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from rebasin_lt.experiment.before import BEFORE_TRAINING, KEYS
from rebasin_lt.report.kit.tables import Column, Table


def before_columns(known: Collection[str], spread: str = "s.e.") -> dict[str, Column]:
    """The columns of what is known, by key, each number beside what chance gives."""
    columns = {}
    for name, measure in BEFORE_TRAINING.items():
        columns[name] = Column(measure.label, decimals=measure.decimals, spread=spread)
        if isinstance(measure.chance, str):
            columns[measure.chance] = Column("by chance", decimals=measure.decimals, spread=spread)
    return {key: column for key, column in columns.items() if key in known}


def before_table(masks: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row per mask; what is not known of any has no column."""
    columns = before_columns({key for found in masks.values() for key in KEYS if key in found})
    rows = [[name, *map(found.get, columns)] for name, found in masks.items()] if columns else []
    of = sorted({found["signs_of"] for found in masks.values() if "signs_of" in found})
    about = f"; signs of {' and '.join(of)} agree by chance in .5" if of else ""
    return Table([Column("mask", align="left"), *columns.values()], rows, f"Before training{about}")


def before_text(masks: Mapping[str, Mapping[str, Any]], missing: Iterable[str], elsewhere: Collection[str] = ()) -> str:
    """The table, what its numbers say and are, and a line for all that is not known; nothing where nothing is known.

    What is said of several masks is said once. `elsewhere` are keys of numbers that another table above has.
    """
    shown = {name: {key: found[key] for key in found if key not in elsewhere} for name, found in masks.items()}
    table = before_table(shown)
    measures = [measure for name, measure in BEFORE_TRAINING.items() if any(name in found for found in shown.values())]
    lines = [*_readings(masks), *(f"{measure.label}: {measure.meaning}" for measure in measures), *missing]
    return (table.to_text() if table.rows else "") + "".join(f"{line}\n" for line in lines)


def _readings(masks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Each sentence once, behind the names of the masks that it is true of."""
    named: dict[str, list[str]] = {}
    for name, found in masks.items():
        if found.get("reading"):
            named.setdefault(found["reading"], []).append(name)
    every = len(masks) > 1
    return [
        f"{f'all {len(masks)} masks' if every and len(names) == len(masks) else ', '.join(names)}: {text}"
        for text, names in named.items()
    ]
