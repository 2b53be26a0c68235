"""A study small enough to be run in a test with whatever of it is opened, and a way to run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.study.checks import check_study
from rebasin_lt.study.folder import claim_study, read_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launch import LAUNCHERS
from rebasin_lt.study.launchers.launcher import LauncherKind
from rebasin_lt.study.plan import plan
from rebasin_lt.study.state import State
from rebasin_lt.study.work import run_stage

TINY = Recipe(
    network={"arch": "mlp", "num_classes": 10},
    targets=(0.5, 0.75),
    fraction=0.5,
    rewinds=("0it",),
    dense_epochs=2,
    epochs_per_round=1,
    sparse_epochs=1,
)


def study(recipe=None, **settings) -> Study:
    """One seed of A and B, pruned to two sparsities."""
    grid = {"title": "opened", "seeds": [0], "methods": ["lth", "permuted"], **settings}
    return Study(recipe=replace(TINY, **(recipe or {})), **grid)


def run(grid: Study, folder: Path) -> Path:
    check_study(grid)
    with claim_study(folder, grid):
        for stage in plan(grid).values():
            run_stage(grid, stage, folder)
    assert State.of(plan(grid), folder).done == set(plan(grid))
    return folder


def as_it_is(mask: Mask, *_: object) -> Mask:
    """A control of the user's own, as `opened:as_it_is`: the mask that it imitates, signs and all."""
    return mask


@contextmanager
def launched_here() -> Iterator[None]:
    """For a while, the launcher on this machine starts no process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LAUNCHERS, "local", LauncherKind("local", _do_here, count=lambda _: 1, here=True))
        yield


def _do_here(folder: Path, state: State, *_: object) -> None:
    grid = read_study(folder)
    for path, stage in state.plan.items():
        run_stage(grid, stage, folder)
        state.done.add(path)


def masks_of(folder: Path) -> list[Mask]:
    return [Mask.load(path) for path in sorted(folder.glob("**/imp_a*/imp/*.mask.safetensors"))]
