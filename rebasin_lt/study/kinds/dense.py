"""The stages that train A and B, and keep them at every moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rebasin_lt.experiment.file_names import FINAL, rewind_name
from rebasin_lt.study.grid import Study
from rebasin_lt.study.kinds.given import given_network, network_row
from rebasin_lt.study.stage import ROLES, GridPoint, Stage, StageKind, recipe_for, stage_seed


def dense_stage(point: GridPoint, seed: int, role: str) -> Stage:
    """The network of a role in a repetition: trained, or one that is given."""
    study = point.study
    if study.given is not None and role in study.given:
        return given_network(point, seed, role)
    return Stage(
        point.path(DENSE, seed, f"dense_{role}"),
        DENSE.name,
        point.width,
        point.recipe.dense_epochs,
        outputs=(FINAL, *map(rewind_name, study.kept_moments)),
        settings={"seed": stage_seed(seed, f"dense_{role}"), "repetition": seed, "role": role},
        axes=point.axes_of(DENSE),
    )


def _of_seed(point: GridPoint, seed: int) -> Iterator[Stage]:
    yield from (dense_stage(point, seed, role) for role in ROLES)


def _run(study: Study, stage: Stage, folder: Path) -> None:
    from rebasin_lt.experiment import stages

    stages.train_dense(folder / stage.path, recipe_for(study, stage), stage.settings["seed"])


def _read(study: Study, stage: Stage, result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
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
