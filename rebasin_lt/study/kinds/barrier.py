"""The stages that measure the line from A to B, before and after alignment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rebasin_lt.experiment.file_names import FINAL, PERMUTATION
from rebasin_lt.settings.options import BarrierOptions
from rebasin_lt.study.grid import Study
from rebasin_lt.study.kinds.match import match_stage
from rebasin_lt.study.stage import ROLES, GridPoint, Stage, StageKind, about, opening, recipe_for

_CURVE = ("alphas", "loss", "error", "loss_barrier", "error_barrier")


def barrier_of(study: Study) -> BarrierOptions:
    """What a study says about its barriers, without the networks."""
    chosen = {name: value for name, value in (study.barrier or {}).items() if name != "matchers"}
    return BarrierOptions(ckpt_a="", ckpt_b="", **{"loss": study.recipe.loss, **chosen})


def _barrier_stage(point: GridPoint, matcher: str, seed: int) -> Stage:
    match = match_stage(point, matcher, seed, seed)
    return point.stage(
        BARRIER_KIND,
        seed,
        *("barrier", matcher),
        needs=(match.settings["a"], match.settings["b"], match.path),
        settings={**match.settings, "match": match.path},
        inputs=(*(f"{match.settings[role]}/{FINAL}" for role in ROLES), f"{match.path}/{PERMUTATION}"),
    )


def _of_seed(point: GridPoint, seed: int) -> Iterator[Stage]:
    if point.study.barrier is not None:
        for matcher in point.study.barrier.get("matchers", point.study.matchers):
            yield _barrier_stage(point, matcher, seed)


def _run(study: Study, stage: Stage, folder: Path) -> None:
    from rebasin_lt.analyses.barrier import measure_barriers

    settings = replace(
        barrier_of(study),
        ckpt_a=str(folder / stage.settings["a"] / FINAL),
        ckpt_b=str(folder / stage.settings["b"] / FINAL),
        permutation=str(folder / stage.settings["match"] / PERMUTATION),
        **opening(recipe_for(study, stage)),
    )
    measure_barriers(settings, folder / stage.path)


def _read(study: Study, stage: Stage, result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    row = about(stage, seed=stage.settings["repetition"], matcher=stage.settings["matcher"])
    for curve in result["curves"]:
        values = {name: curve[name] for name in ("split", "correction", *_CURVE)}
        yield "barriers", {**row, "when": curve["alignment"], **values}


BARRIER_KIND = StageKind(
    "barrier",
    "measure the line from A to B, before and after",
    run=_run,
    read=_read,
    of_seed=_of_seed,
    needs=("dense", "match"),
    training="prune",
)
