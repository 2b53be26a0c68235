"""The stages that train A and B, and keep them at every moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rebasin_lt.experiment.file_names import FINAL, rewind_name
from rebasin_lt.moment import END, Moment
from rebasin_lt.study.grid import Study
from rebasin_lt.study.kinds.given import given_network, network_row
from rebasin_lt.study.stage import ROLES, GridPoint, Stage, StageKind, recipe_for, stage_seed


def dense_stage(point: GridPoint, seed: int, role: str) -> Stage:
    """The network of a role in a repetition: trained, or one that is given."""
    study = point.study
    if study.given is not None and role in study.given:
        return given_network(point, seed, role)
    until = study.b_ends_at if role == "b" else None
    moments = study.moments_of_b if role == "b" else study.kept_moments
    about = {"seed": stage_seed(seed, f"dense_{role}"), "repetition": seed, "role": role}
    return point.stage(
        DENSE,
        seed,
        f"dense_{role}",
        epochs=point.recipe.dense_epochs if until is None else Moment.parse(until).count,
        outputs=(*([FINAL] if until is None else []), *map(rewind_name, moments)),
        settings=about if until is None else {**about, "until": until, "moments": moments},
    )


def weights_of(dense: Stage, moment: str) -> str:
    """The file that a dense stage leaves of a moment, below the study's folder; `END` is the trained network."""
    return f"{dense.path}/{FINAL if moment == END else rewind_name(moment)}"


def _of_seed(point: GridPoint, seed: int) -> Iterator[Stage]:
    yield from (dense_stage(point, seed, role) for role in ROLES)


def _run(study: Study, stage: Stage, folder: Path) -> None:
    from rebasin_lt.experiment import stages

    recipe, until = recipe_for(study, stage), stage.settings.get("until")
    if until is not None:
        recipe = replace(recipe, rewinds=stage.settings["moments"])
    stages.train_dense(folder / stage.path, recipe, stage.settings["seed"], until)


def _read(study: Study, stage: Stage, result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "until" not in stage.settings:  # what stopped early is no trained network to compare with
        yield "dense", network_row(stage, result)


DENSE = StageKind(
    "dense",
    "train A and B, and keep them at every moment",
    run=_run,
    read=_read,
    of_seed=_of_seed,
    needs=("given",),
    training="dense",
    trains=True,
)
