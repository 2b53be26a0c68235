"""From finished studies, and from the plans of those that were not run, to the numbers in docs/results."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._figures import machine
from rebasin_lt.errors import InputError
from rebasin_lt.report.study.numbers import write_numbers
from rebasin_lt.settings.config_files import find_config, shipped
from rebasin_lt.storage.files import write_text
from rebasin_lt.storage.strict_yaml import read_yaml
from rebasin_lt.study.folder import study_of
from rebasin_lt.study.ledger import images_per_epoch, ledger, probe
from rebasin_lt.study.outcome import read_outcome
from rebasin_lt.study.plan import plan

_NO_PART = ("out", "launcher", "slurm")  # of the grid
RAN = ("studies/digits.yaml",)
"""Shipped studies whose results the documentation shows; the others are listed with what they would cost."""


def results_studies() -> list[str]:
    """The names of the studies for the page, run or not, as in `configs/results`."""
    return [name.removeprefix("results/").removesuffix(".yaml") for name in shipped() if name.startswith("results/")]


def measured_studies(folder: Path) -> list[str]:
    """Those of them whose numbers lie in `folder`."""
    return [name for name in results_studies() if (folder / name).is_dir()]


def collect_numbers(runs: Path, out: Path) -> Iterator[str]:
    """Write `out/NAME/*` for each study in `runs`; yields the names.

    Raises InputError for a study that is not complete: a page of part of it would change with the next stage.
    """
    for name in results_studies():
        if not (runs / name).is_dir():
            continue
        outcome = read_outcome(runs / name)
        missing = [stage["path"] for stage in outcome.stages if not stage["done"]]
        if missing:
            raise InputError(f"{runs / name} lacks {len(missing)} stages, the first {missing[0]}: finish it first")
        write_numbers(outcome, out / name)
        yield name


def write_not_run(path: Path) -> None:
    """A CSV row per shipped study without numbers beside `path`: command, stages, epochs, images, hours on a core of
    this CPU."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["command", "stages", "epochs", "images", "core_hours", "machine"])
    ran = {*RAN, *(f"results/{name}.yaml" for name in measured_studies(path.parent))}
    for name in shipped():
        if name.startswith(("studies/", "results/")) and name not in ran:
            writer.writerow([f"rebasin-lt study --config {name}", *_cost(name), machine("cpu")["cpu"].split(",")[0]])
    write_text(path, file.getvalue())


def _cost(name: str) -> list[Any]:
    settings = read_yaml(find_config(name))
    study = study_of({key: value for key, value in settings.items() if key not in _NO_PART}, name)
    stages = plan(study)
    rows = ledger(stages, (), images_per_epoch(study), probe(study))
    return [
        len(rows),
        *(sum(row[what] for row in rows) for what in ("epochs", "images")),
        sum(row["hours"] for row in rows),
    ]
