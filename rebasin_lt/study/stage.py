"""One folder of a study, and the record of its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.judging.losses import has_error
from rebasin_lt.study.axes import axes_text, axes_until, grid_points
from rebasin_lt.study.cells import SparseCell
from rebasin_lt.study.grid import Study


@dataclass(frozen=True)
class Stage:
    """One folder of a study.

    `needs` are the paths of stages that must be complete before; `outputs`, files in its folder; `inputs`, the outputs
    of others that it is made from, below the study's folder; `axes`, the values of the grid's axes that determine it.
    """

    path: str
    kind: str
    width: float
    epochs: int = 0
    needs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    axes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GridPoint:
    """One width of a study, and one value of each of its axes."""

    study: Study
    width: float
    axes: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def recipe(self) -> Recipe:
        return self.study.recipe_of(self.width, self.axes)

    @cached_property
    def cells(self) -> list[SparseCell]:
        """The sparse runs of a repetition, in the order of the grid."""
        return [cell for cell in self.study.cells if cell.width == self.width]

    def axes_of(self, kind: StageKind) -> dict[str, Any]:
        """The values of the axes that a stage of this kind depends on."""
        return axes_until(self.axes, kind.training)

    def stage(self, kind: StageKind, a: int | None, *parts: str, b: int | None = None, **made: Any) -> Stage:
        """A stage in the folder that `path` names, of repetition `a`; `made` are its other fields.

        With B of another repetition `b` it is none's: a member of an ensemble, in a folder that says whose.
        """
        if b not in {None, a}:
            a, parts = None, (f"member={b}", *parts)
        return Stage(self.path(kind, a, *parts), kind.name, self.width, axes=self.axes_of(kind), **made)

    def path(self, kind: StageKind, seed: int | None, *parts: str) -> str:
        """The folder of a stage of one repetition, or of none, below the study's, named by what determines it."""
        repetition = "diversity" if seed is None else f"seed={seed}"
        name = ",".join([parts[-1], *axes_text(self.axes_of(kind))])
        return "/".join((f"width={self.width:g}", repetition, *parts[:-1], name))


@dataclass(frozen=True)
class StageKind:
    """All there is to know of a kind of stage. One that is in a file of `study/kinds` is known everywhere.

    Args:
        name: in `Stage.kind`, in reports and ledgers
        does: what a stage of this kind does, in words
        run: does a stage of the study below the study's folder, unless it is complete
        read: from the study, a stage and its result, rows of `StudyOutcome`, each with the name of its list
        of_seed: the stages of a repetition
        of_width: the stages that compare repetitions
        needs: names of the kinds that come before it
        training: the last kind of training whose settings it depends on
        trains: whether it is training, which every process of a task takes part in
    """

    name: str
    does: str
    run: Callable[[Study, Stage, Path], object]
    read: Callable[[Study, Stage, dict[str, Any]], Iterable[tuple[str, dict[str, Any]]]] = lambda *_: ()
    of_seed: Callable[[GridPoint, int], Iterator[Stage]] = lambda *_: iter(())
    of_width: Callable[[GridPoint], Iterator[Stage]] = lambda *_: iter(())
    needs: tuple[str, ...] = ()
    training: Literal["dense", "prune", "sparse"] = "sparse"
    trains: bool = False


def points_of(study: Study) -> Iterator[GridPoint]:
    """Every width, with every combination of values of the axes."""
    for width in study.widths:
        for values in grid_points(study.axes):
            yield GridPoint(study, width, values)


ROLES = ("a", "b")
_SEED_OF = {"dense_a": 0, "dense_b": 1, "imp_a": 2, "sparse": 3, "control": 4, "imp_b": 5, "match": 6}


def stage_seed(seed: int, what: str) -> int:
    """The seed of a part of a repetition: dense_a, dense_b, imp_a, imp_b, sparse, control or match."""
    return 10 * seed + _SEED_OF[what]


def recipe_for(study: Study, stage: Stage) -> Recipe:
    """What a stage trains, at its width and its values of the axes."""
    return study.recipe_of(stage.width, stage.axes)


def about(stage: Stage, **more: Any) -> dict[str, Any]:
    """What every row of an outcome begins with: the width, the values of the axes if there are any, and `more`."""
    axes = {"axes": ",".join(axes_text(stage.axes))} if stage.axes else {}
    return {"width": stage.width, **axes, **more}


def code_of(recipe: Recipe) -> tuple[str | None, dict[str, Any]]:
    """The user's own network or module, for whoever opens its checkpoints, and the sizes that those do not say."""
    sizes = {name: recipe.network[name] for name in ("width", "num_classes") if name in recipe.network}
    return recipe.own_code, sizes if recipe.module else {}


def measured(recipe: Recipe, members: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """What the analysis `diversity` finds of the networks in the checkpoints of each setting, on the test images."""
    from rebasin_lt.analyses.diversity import measure, open_test
    from rebasin_lt.experiment.dataset import build_dataset, fed
    from rebasin_lt.lit.checkpoint import load_network

    code, sizes = code_of(recipe)
    networks = {name: [load_network(path, code, **sizes).network for path in paths] for name, paths in members.items()}
    data = build_dataset(recipe)
    first = next(network for members in networks.values() for network in members)
    return measure(networks, fed(recipe, data, open_test(data), first), loss=recipe.loss)


def measured_alone(recipe: Recipe, path: Path) -> dict[str, float]:
    """The test metrics of the network in a checkpoint, by the loss of the recipe, as a module of it would log them."""
    if has_error(recipe.loss):
        found = measured(recipe, {"alone": [path]})
        return {"test/top1": 100 * found["settings"]["alone"]["member_accuracy"][0]}
    from rebasin_lt.analyses.diversity import open_test
    from rebasin_lt.connectivity.evaluation import evaluate
    from rebasin_lt.experiment.dataset import build_dataset, fed
    from rebasin_lt.experiment.subjects import resolve_device
    from rebasin_lt.lit.checkpoint import load_network

    code, sizes = code_of(recipe)
    network = load_network(path, code, **sizes).network.to(resolve_device("auto"))
    data = build_dataset(recipe)
    return {"test/loss": evaluate([network], fed(recipe, data, open_test(data), network), loss=recipe.loss)[0].loss}


def opening(recipe: Recipe) -> dict[str, Any]:
    """What an analysis needs, beside checkpoints, to open a study's networks and data: code that the user names."""
    from rebasin_lt.experiment.dataset import reading_settings

    code, sizes = code_of(recipe)
    return {
        "model": code,
        **sizes,
        "data": recipe.own_data,
        "root": recipe.data.get("root"),
        **reading_settings(recipe.data),
    }
