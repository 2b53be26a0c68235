"""A study as a folder of numbers: all that its report is made of, without the networks, written and read again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.experiment.before import KEYS
from rebasin_lt.experiment.metrics import METRICS
from rebasin_lt.report.analyses.permute import OVERLAPS
from rebasin_lt.report.kit.escape import text_of_csv
from rebasin_lt.report.study.accuracy import runs_table
from rebasin_lt.report.study.barriers import barrier_runs_table, curves_table
from rebasin_lt.report.study.diversity import diversity_runs_table
from rebasin_lt.report.study.frontier import prices_table
from rebasin_lt.report.study.ledger import stages_table
from rebasin_lt.report.study.overlap import overlap_runs_table
from rebasin_lt.report.study.setting import Setting
from rebasin_lt.storage.files import write_json, write_text
from rebasin_lt.study.outcome import StudyOutcome

STUDY = "study.json"
"""The file with a study's title and settings; a folder that has it is one of numbers."""

Row = dict[str, Any]


def write_numbers(outcome: StudyOutcome, folder: Path) -> list[Path]:
    """Write study.json, and a CSV file with a row per run, line, point, mask, ensemble, price and stage; returns the
    paths."""
    tables = {
        "accuracy": runs_table(outcome.dense, outcome.pruned, outcome.sparse),
        "barriers": barrier_runs_table(outcome.barriers),
        "curves": curves_table(outcome.barriers),
        "overlap": overlap_runs_table(outcome.matches),
        "diversity": diversity_runs_table(outcome.diversity),
        "prices": prices_table(outcome.prices),
        "ledger": stages_table(outcome.stages),
    }
    write_json(folder / STUDY, {"title": outcome.title, "settings": outcome.settings})
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.to_csv())
    return [folder / STUDY, *(folder / f"{name}.csv" for name in tables)]


def read_numbers(folder: Path) -> StudyOutcome:
    """The outcome that `write_numbers` wrote: a report of it is the same, byte for byte.

    Objectives and sizes of the matches are not in it. Raises BrokenFileError, naming the file, for one that is missing
    or holds something else.
    """
    try:
        about = json.loads((folder / STUDY).read_text(encoding="utf-8"))
        outcome = StudyOutcome(str(about["title"]), dict(about["settings"]))
        setting = Setting.of(outcome.settings)  # what a report takes from them is there as it expects it
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFileError(f"{folder / STUDY} does not hold the title and settings of a study: {error}") from error
    outcome.stages.extend(_rows(folder / "ledger.csv", ("kind", "path", "done"), ("epochs", "images")))
    runs: dict[str, list[Row]] = {"dense": outcome.dense, "pruned": outcome.pruned, "sparse": outcome.sparse}
    for stage, run in _runs(folder / "accuracy.csv"):
        runs[stage].append(run)
    outcome.barriers.extend(_barriers(folder, setting.judged.error is not None))
    outcome.matches.extend(_matches(folder))
    ensembles = _rows(folder / "diversity.csv", ("width", "setting", "members", "accuracy"), _DIVERSITY)
    outcome.diversity.extend(ensembles)
    if (folder / "prices.csv").exists():  # reports of earlier releases have none
        outcome.prices.extend(_rows(folder / "prices.csv", ("method",), _PRICES))
    return outcome


def _runs(path: Path) -> Iterator[tuple[str, Row]]:
    """Each run with its kind of stage."""
    for row in _rows(path, ("stage", "width", "seed"), ("role", "method", "sparsity", "rewind", *_METRICS)):
        stage, about = row["stage"], ("width", "seed", *_ABOUT.get(row["stage"], ()))
        empty = [name for name in about if row[name] is None]
        if stage not in _ABOUT or empty:
            why = f"a row of {stage} has no {empty[0]}" if empty else f"there is no stage {stage!r}"
            raise BrokenFileError(f"{path} does not hold what a report writes: {why}")
        named = {"sparsity": "target"} if stage == "pruned" else {}
        yield stage, {**_axes(row), **{named.get(name, name): row[name] for name in (*about, *METRICS) if name in row}}


def _barriers(folder: Path, has_error: bool) -> Iterator[Row]:
    """Each line with its points, and their error where the loss has one."""
    needed, optional = (slice(None), slice(0)) if has_error else (slice(-1), slice(-1, None))
    of_point, of_line = ("alpha", "loss", "error"), ("loss_barrier", "error_barrier")
    points: dict[tuple[Any, ...], list[Row]] = {}
    for point in _rows(folder / "curves.csv", (*_LINE, *of_point[needed]), of_point[optional]):
        points.setdefault(tuple(point.get(name) for name in (*_LINE, "axes")), []).append(point)
    for line in _rows(folder / "barriers.csv", (*_LINE, *of_line[needed]), of_line[optional]):
        own = points.get(tuple(line.get(name) for name in (*_LINE, "axes")), [])
        if not own or own[-1]["alpha"] != 1:
            named = ", ".join(f"{name} {line[name]}" for name in _LINE)
            raise BrokenFileError(f"{folder / 'curves.csv'} does not hold all points of the line {named}")
        curve = {name: [point[column] for point in own] for name, column in _CURVE.items()}
        yield {**line, **curve, **({} if has_error else {"error": None})}


def _matches(folder: Path) -> Iterator[Row]:
    """Each match with its masks."""
    matches: dict[tuple[Any, ...], Row] = {}
    for mask in _rows(folder / "overlap.csv", (*_MATCH, "sparsity", *OVERLAPS)):
        about = {**{name: mask[name] for name in _MATCH}, **_axes(mask)}
        match = matches.setdefault(tuple(about.values()), {**about, "objective": {}, "sizes": {}, "masks": []})
        known = {key: mask[key] for key in KEYS if mask.get(key) is not None}
        match["masks"].append({"target": mask["sparsity"], **{kind: mask[kind] for kind in OVERLAPS}, **known})
    yield from matches.values()


def _axes(row: Row) -> Row:
    """The values of the study's own axes, if the file has any of this run."""
    return {"axes": row["axes"]} if "axes" in row else {}


def _rows(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a CSV file as text and numbers; None for an empty field, which none of `needed` may be."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in (*needed, *optional) if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"there is no column {missing[0]}")
            for texts in reader:
                row = {name: _value(name, text) for name, text in texts.items()}
                empty = [name for name in needed if row[name] is None]
                if empty:
                    raise ValueError(f"line {reader.line_num} has no {empty[0]}")
                yield row if row.get("axes") else {name: value for name, value in row.items() if name != "axes"}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise BrokenFileError(f"{path} does not hold what a report writes: {error}") from error


def _value(name: str, text: str | None) -> Any:
    if text is None or name is None:
        raise ValueError("a row has another number of fields than the head")
    return None if text == "" else _READ.get(name, float)(text)


def _name(cell: str) -> str:
    text = text_of_csv(cell)
    if not text.isprintable():
        raise ValueError(f"{text!r} is no name")
    return text


_METRICS = [name for name, metric in METRICS.items() if not metric.alone]
_ABOUT = {"dense": ("role",), "pruned": ("role", "sparsity"), "sparse": ("method", "sparsity", "rewind")}
_DIVERSITY = ("sparsity", "rewind", "accuracy_std", "ensemble", "disagreement", "kl", "js")
_PRICES = ("rewind", "dense", "pruning", "sparse")
_LINE = ("width", "seed", "matcher", "split", "correction", "when")
_MATCH = ("width", "seed", "matcher")
_CURVE = {"alphas": "alpha", "loss": "loss", "error": "error"}
_TEXT = (
    "axes",
    "stage",
    "role",
    "method",
    "rewind",
    "matcher",
    "split",
    "correction",
    "when",
    "setting",
    "kind",
    "path",
)
_READ: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(_TEXT, _name),
    **dict.fromkeys(("seed", "epochs", "images", "members"), int),
    **dict.fromkeys(("done", "diverged"), {"True": True, "False": False}.__getitem__),
}
