"""The stages that train under a mask from rewound weights: the cells of the grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rebasin_lt.experiment.file_names import FINAL, mask_name, rewind_name
from rebasin_lt.experiment.methods import MATCHED, METHODS, fixed_methods, kind_of_control
from rebasin_lt.experiment.metrics import metrics_of
from rebasin_lt.study.grid import Study
from rebasin_lt.study.kinds.control import control_stage
from rebasin_lt.study.kinds.dense import dense_stage
from rebasin_lt.study.kinds.imp import imp_stage
from rebasin_lt.study.kinds.match import match_stage
from rebasin_lt.study.stage import GridPoint, Stage, StageKind, about, recipe_for, stage_seed


def sparse_stage(point: GridPoint, method: str, sparsity: float, rewind: str, a: int, b: int) -> Stage:
    """Training under A's mask, a permuted one, B's own or a control's; a ≠ b for members of an ensemble."""
    record = fixed_methods().get(method, METHODS[MATCHED])
    dense = dense_stage(point, a if record.weights == "a" else b, record.weights)
    masks, folder = _masks(point, method, rewind, a, b)
    cell = f"method={method},sparsity={sparsity:g},rewind={rewind}"
    parts = ("sparse", cell) if a == b else (f"member={b}", "sparse", cell)
    mask, init_from = f"{masks.path}/{folder}{mask_name(sparsity)}", f"{dense.path}/{rewind_name(rewind)}"
    return Stage(
        point.path(SPARSE, a if a == b else None, *parts),
        SPARSE.name,
        point.width,
        point.recipe.epochs_after(rewind),
        (dense.path, masks.path),
        (FINAL,),
        {
            **{"method": method, "sparsity": sparsity, "rewind": rewind, "a": a, "b": b},
            **{"mask": mask, "init_from": init_from, "seed": stage_seed(b, "sparse")},
        },
        (mask, init_from),
        point.axes_of(SPARSE),
    )


def _masks(point: GridPoint, method: str, rewind: str, a: int, b: int) -> tuple[Stage, str]:
    """The stage that leaves a method's masks, and where in its folder."""
    if kind_of_control(method) is not None:
        return control_stage(point, method, b, rewind), ""
    if method in point.study.matchers:
        return match_stage(point, method, a, b), ""
    role = fixed_methods()[method].mask
    return imp_stage(point, a if role == "a" else b, role), "imp/"


def _of_seed(point: GridPoint, seed: int) -> Iterator[Stage]:
    study = point.study
    for rewind in study.recipe.rewinds:
        for sparsity in study.recipe.targets:
            for method in study.methods:
                yield sparse_stage(point, method, sparsity, rewind, seed, seed)


def _run(study: Study, stage: Stage, folder: Path) -> None:
    from rebasin_lt.experiment import stages

    mask, init_from = (folder / stage.settings[name] for name in ("mask", "init_from"))
    recipe = recipe_for(study, stage)
    stages.train_sparse(folder / stage.path, recipe, mask, init_from, stage.settings["seed"], stage.epochs)


def _read(study: Study, stage: Stage, result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    settings = stage.settings
    if settings["a"] != settings["b"]:
        return  # a member of an ensemble, no cell of the grid
    cell = {name: settings[name] for name in ("method", "sparsity", "rewind")}
    yield "sparse", {**about(stage, seed=settings["b"], **cell), **metrics_of(result)}


SPARSE = StageKind(
    "sparse",
    "train under a mask from rewound weights, and test",
    run=_run,
    read=_read,
    of_seed=_of_seed,
    needs=("dense", "imp", "match", "control"),
    trains=True,
)
