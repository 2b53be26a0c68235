"""The stages that match A to B, and move all of A's masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rebasin_lt.experiment.before import KEYS
from rebasin_lt.experiment.file_names import FINAL, PERMUTATION, mask_name
from rebasin_lt.moment import END
from rebasin_lt.study.grid import Study
from rebasin_lt.study.kinds.dense import dense_stage, weights_of
from rebasin_lt.study.kinds.imp import imp_stage
from rebasin_lt.study.stage import GridPoint, Stage, StageKind, about, opening, recipe_for, stage_seed

_OVERLAPS = ("permuted", "unpermuted", "independent")


def match_stage(point: GridPoint, matcher: str, a: int, b: int) -> Stage:
    """A of repetition `a` matched to B of repetition `b`, with all of A's masks."""
    dense = dense_stage(point, a, "a"), dense_stage(point, b, "b")
    needs = (*(stage.path for stage in dense), imp_stage(point, a, "a").path)
    weights_b = weights_of(dense[1], point.study.matchers[matcher].get("at", END))
    masks = tuple(mask_name(target) for target in point.recipe.targets)
    return point.stage(
        MATCH,
        a,
        *("match", matcher),
        b=b,
        needs=needs,
        outputs=(PERMUTATION, *masks),
        settings={
            **{"a": needs[0], "b": needs[1], "imp": needs[2], "matcher": matcher},
            "repetition": a if a == b else None,
            "seed": stage_seed(b, "match"),
        },
        inputs=(weights_of(dense[0], END), weights_b, *(f"{needs[2]}/imp/{mask}" for mask in masks)),
    )


def _of_seed(point: GridPoint, seed: int) -> Iterator[Stage]:
    yield from (match_stage(point, matcher, seed, seed) for matcher in point.study.matchers)


def _run(study: Study, stage: Stage, folder: Path) -> None:
    from rebasin_lt.analyses.permute import match_and_permute
    from rebasin_lt.experiment import stages
    from rebasin_lt.experiment.matcher import matcher_of
    from rebasin_lt.settings.options import PermuteOptions

    settings, recipe = study.matchers[stage.settings["matcher"]], recipe_for(study, stage)
    at = settings.get("at", END)
    dense_b = folder / stage.settings["b"]
    masks = [stages.mask_file(folder / stage.settings["imp"], target) for target in recipe.targets]
    options = PermuteOptions(
        ckpt_a=str(folder / stage.settings["a"] / FINAL),
        ckpt_b=str(dense_b / FINAL if at == END else stages.rewind_file(dense_b, at)),
        masks=tuple(map(str, masks)),
        **asdict(matcher_of(settings, stage.settings["seed"])),
        num_images=settings.get("num_images"),
        batch_size=settings.get("batch_size", 500),
        num_alphas=0,
        **opening(recipe),
    )
    match_and_permute(options, folder / stage.path)


def _read(study: Study, stage: Stage, result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    settings = stage.settings
    if settings["repetition"] is None:
        return
    before = result.get("before_training", {}).get("masks", {})
    masks = [
        {
            "target": target,
            **{name: result["masks"][mask_name(target)][name] for name in _OVERLAPS},
            **{key: value for key, value in before.get(mask_name(target), {}).items() if key in KEYS},
        }
        for target in study.recipe.targets
    ]
    row = about(stage, seed=settings["repetition"], matcher=settings["matcher"])
    yield "matches", {**row, "objective": result["objective"], "sizes": result["sizes"], "masks": masks}


MATCH = StageKind(
    "match",
    "match A to B, and move all of A's masks",
    run=_run,
    read=_read,
    of_seed=_of_seed,
    needs=("dense", "imp"),
    training="prune",
)
