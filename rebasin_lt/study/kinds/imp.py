"""The stages that prune a trained network, through all sparsities in one chain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rebasin_lt.experiment.file_names import FINAL, mask_name, rewind_name, ticket_name
from rebasin_lt.experiment.methods import fixed_methods
from rebasin_lt.experiment.signed_methods import read_method
from rebasin_lt.study.grid import Study
from rebasin_lt.study.kinds.dense import dense_stage
from rebasin_lt.study.kinds.given import given_mask, network_row
from rebasin_lt.study.stage import GridPoint, Stage, StageKind, recipe_for, stage_seed


def imp_stage(point: GridPoint, seed: int, role: str) -> Stage:
    """The chain of pruning of a role in a repetition, or a mask of A that is given."""
    if role == "a" and point.study.given is not None and "mask" in point.study.given:
        return given_mask(point, seed)
    dense, recipe = dense_stage(point, seed, role), point.recipe
    moments = [recipe.pruned_from] if recipe.pruned_from else []
    return point.stage(
        IMP,
        seed,
        f"imp_{role}",
        epochs=recipe.prune_epochs,
        needs=(dense.path,),
        outputs=(FINAL, *(f"imp/{name(target)}" for target in recipe.targets for name in (mask_name, ticket_name))),
        settings={"seed": stage_seed(seed, f"imp_{role}"), "dense": dense.path, "repetition": seed, "role": role},
        inputs=tuple(f"{dense.path}/{name}" for name in (FINAL, *map(rewind_name, moments))),
    )


def _of_seed(point: GridPoint, seed: int) -> Iterator[Stage]:
    yield imp_stage(point, seed, "a")
    bases = {read_method(cell.method).base for cell in point.cells}
    if any(record.mask == "b" for name, record in fixed_methods().items() if name in bases):
        yield imp_stage(point, seed, "b")


def _run(study: Study, stage: Stage, folder: Path) -> None:
    from rebasin_lt.experiment import stages

    dense = folder / stage.settings["dense"]
    stages.prune(folder / stage.path, recipe_for(study, stage), dense, stage.settings["seed"])


def _read(study: Study, stage: Stage, result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The ticket of every target; of the last alone where the stage was done by a release that tested no other."""
    targets = study.recipe.targets
    tickets = result.get("tickets") or {f"{targets[-1]:g}": result}
    for target in targets:
        if f"{target:g}" in tickets:
            yield "pruned", {**network_row(stage, tickets[f"{target:g}"]), "target": target}


IMP = StageKind(
    "imp",
    "prune a trained network, through all sparsities in one chain",
    run=_run,
    read=_read,
    of_seed=_of_seed,
    needs=("given", "dense"),
    training="prune",
    trains=True,
)
