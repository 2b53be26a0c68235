"""From finished studies, and from the plans of those that were not run, to the numbers in docs/results."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks._figures import machine
from rebasin_lt.errors import InputError
from rebasin_lt.report.study.numbers import STUDY, read_numbers, write_numbers
from rebasin_lt.settings.config_files import find_config, shipped
from rebasin_lt.storage.files import write_text
from rebasin_lt.storage.strict_yaml import read_yaml
from rebasin_lt.study.folder import study_of
from rebasin_lt.study.ledger import images_per_epoch, ledger, probe
from rebasin_lt.study.outcome import StudyOutcome, read_outcome
from rebasin_lt.study.plan import plan

_NO_PART = ("out", "launcher", "slurm")  # of the grid
_SEED = re.compile(r"(?:^|/)seed=(\d+)/")
_WIDTH = re.compile(r"(?:^|/)width=([\d.]+)/")
_OF_SEEDS = ("dense", "pruned", "sparse", "matches", "barriers")
RAN = ("studies/digits.yaml",)
"""Shipped studies whose results the documentation shows; the others are listed with what they would cost."""


def results_studies() -> list[str]:
    """The names of the studies for the page, run or not, as in `configs/results`."""
    return [name.removeprefix("results/").removesuffix(".yaml") for name in shipped() if name.startswith("results/")]


def measured_studies(folder: Path) -> list[str]:
    """Those of them whose numbers lie in `folder`."""
    return [name for name in results_studies() if (folder / name).is_dir()]


def whole_studies(folder: Path) -> list[str]:
    """Those of them of which every pair is in `folder`; the others go on."""
    return [name for name in measured_studies(folder) if _seeds(folder / name) == set(shipped_study(name)["seeds"])]


def _seeds(folder: Path) -> set[int]:
    return set(json.loads((folder / STUDY).read_text(encoding="utf-8"))["settings"]["seeds"])


def shipped_study(name: str) -> dict[str, Any]:
    """The settings in `configs/results`, by the study's name."""
    settings: dict[str, Any] = read_yaml(find_config(f"results/{name}.yaml"))
    return settings


def collect_numbers(runs: Path, out: Path) -> Iterator[str]:
    """Write `out/NAME/*` for each study in `runs`, of the pairs that are whole; yields the names.

    Pairs whose numbers lie in `out` already, and that `runs` lacks, stay: a study may be run pair by pair, each on
    another machine. Raises InputError for a study without a whole pair, since numbers of part of one would change with
    the next stage, and for pairs in `out` that were made by other settings.
    """
    for name in results_studies():
        if not (runs / name).is_dir():
            continue
        outcome = whole_pairs(read_outcome(runs / name))
        if not outcome.settings["seeds"]:
            missing = [stage["path"] for stage in outcome.stages if not stage["done"]]
            raise InputError(f"{runs / name} lacks {len(missing)} stages, the first {missing[0]}: finish a pair first")
        outcome = _as_shipped(outcome, name)
        if (out / name / STUDY).is_file():
            outcome = joined(read_numbers(out / name), outcome)
        write_numbers(outcome, out / name)
        yield name


def _as_shipped(outcome: StudyOutcome, name: str) -> StudyOutcome:
    """Its data's root as the shipped study names it: where images lie on a machine is nobody else's concern."""
    recipe = outcome.settings["recipe"]
    root = shipped_study(name)["recipe"]["data"].get("root")
    data = {key: root if key == "root" else value for key, value in recipe["data"].items()}
    return replace(outcome, settings={**outcome.settings, "recipe": {**recipe, "data": data}})


def whole_pairs(outcome: StudyOutcome) -> StudyOutcome:
    """What a study says of the seeds of which every stage is done, as if it had no others; all stages if none is whole.

    A stage of no seed, such as an ensemble, belongs to all of them: it is left out with its numbers if it is not done.
    Which seeds are whole does not depend on what came out: a study takes them in their order.
    """
    done: dict[int | None, bool] = {}
    for stage in outcome.stages:
        seed = _seed_of(stage)
        done[seed] = done.get(seed, True) and stage["done"]
    seeds = [seed for seed in outcome.settings["seeds"] if done.get(seed, True)]
    if not seeds:
        return replace(outcome, settings={**outcome.settings, "seeds": []})

    def of_them(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if row["seed"] in seeds]

    return replace(
        outcome,
        settings={**outcome.settings, "seeds": seeds},
        stages=[stage for stage in outcome.stages if stage["done"] and _seed_of(stage) in {None, *seeds}],
        **{name: of_them(getattr(outcome, name)) for name in _OF_SEEDS},
    )


def joined(earlier: StudyOutcome, later: StudyOutcome) -> StudyOutcome:
    """Every pair of both outcomes of one study, in the order of seeds; `later` counts where both have one.

    What belongs to no pair, such as an ensemble or a price, is that of `later`. Raises InputError, naming the setting,
    where `earlier` has pairs of its own that were made by other settings.
    """
    measured = set(later.settings["seeds"])
    kept = [seed for seed in earlier.settings["seeds"] if seed not in measured]
    if not kept:
        return later
    for name in {**earlier.settings, **later.settings}:
        there, here = (json.dumps(part.settings.get(name), sort_keys=True) for part in (earlier, later))
        if name != "seeds" and there != here:
            raise InputError(
                f"{name} of {later.title!r} is {here} in this run, and {there} where pairs {kept} were taken before: "
                "run those pairs too, or collect into another folder"
            )

    def of_both(name: str) -> list[dict[str, Any]]:
        rows = [row for row in getattr(earlier, name) if _place(row)[2] in kept] + getattr(later, name)
        return sorted(rows, key=_place)

    return replace(
        later,
        settings={**later.settings, "seeds": sorted([*kept, *measured])},
        **{name: of_both(name) for name in ("stages", *_OF_SEEDS)},
    )


def _place(row: Mapping[str, Any]) -> tuple[float, bool, int]:
    """Where a row of a run or a stage stands among all: by width, then by seed, then what belongs to no pair."""
    found = _WIDTH.search(row.get("path", ""))
    width, seed = (row["width"], row["seed"]) if found is None else (found[1], _seed_of(row))
    return float(width), seed is None, -1 if seed is None else seed


def _seed_of(stage: Mapping[str, Any]) -> int | None:
    found = _SEED.search(stage["path"])
    return None if found is None else int(found[1])


def write_not_run(path: Path) -> None:
    """A CSV row per shipped study that lacks pairs beside `path`: command, stages, epochs, images, hours on a core of
    this CPU."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["command", "stages", "epochs", "images", "core_hours", "machine"])
    ran = {*RAN, *(f"results/{name}.yaml" for name in whole_studies(path.parent))}
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
