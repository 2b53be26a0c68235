"""The stages that train under a mask from rewound weights: the cells of the grid."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.file_names import FINAL, mask_name, rewind_name
from rebasin_lt.experiment.methods import fixed_methods, kind_of_control
from rebasin_lt.experiment.metrics import metrics_of
from rebasin_lt.experiment.signed_methods import read_method
from rebasin_lt.study.grid import Study
from rebasin_lt.study.kinds.control import control_stage
from rebasin_lt.study.kinds.dense import dense_stage, weights_of
from rebasin_lt.study.kinds.imp import imp_stage
from rebasin_lt.study.kinds.match import match_stage
from rebasin_lt.study.stage import GridPoint, Stage, StageKind, about, recipe_for, stage_seed


def sparse_stage(point: GridPoint, name: str, sparsity: float, rewind: str, a: int, b: int) -> Stage:
    """Training under A's mask, a permuted one, B's own or a control's; a ≠ b for members of an ensemble.

    `name` spells a method, and the signs that it begins with.
    """
    method = read_method(name)
    dense = dense_stage(point, a if method.weights == "a" else b, method.weights)
    masks, folder = mask_stage(point, method.base, rewind, a, b)
    cell = f"method={name},sparsity={sparsity:g},rewind={rewind}"
    mask, init_from = f"{masks.path}/{folder}{mask_name(sparsity)}", f"{dense.path}/{rewind_name(rewind)}"
    signs: dict[str, Any] = {} if method.signs == "none" else {"signs": method.signs}
    if method.moment is not None:
        signs["signs_from"] = weights_of(dense, method.moment)
    return point.stage(
        SPARSE,
        a,
        *("sparse", cell),
        b=b,
        epochs=point.recipe.epochs_after(rewind),
        needs=(dense.path, masks.path),
        outputs=(FINAL,),
        settings={
            **{"method": name, "sparsity": sparsity, "rewind": rewind, "a": a, "b": b},
            **{"mask": mask, "init_from": init_from, "seed": stage_seed(b, "sparse"), **signs},
        },
        inputs=tuple(dict.fromkeys([mask, init_from, *([signs["signs_from"]] if method.moment is not None else [])])),
    )


def mask_stage(point: GridPoint, base: str, rewind: str, a: int, b: int) -> tuple[Stage, str]:
    """The stage that leaves the masks of a method, spelled without its signs, and where in its folder."""
    if kind_of_control(base) is not None:
        return control_stage(point, base, a, b, rewind), ""
    if base in point.study.matchers:
        return match_stage(point, base, a, b), ""
    role = fixed_methods()[base].mask
    return imp_stage(point, a if role == "a" else b, role), "imp/"


def check_signs_there(plan: Mapping[str, Stage], folder: Path, done: Container[str]) -> None:
    """Raise InputError for a mask in a study's folder that has no signs, though what is left begins with them.

    It was given so, or an earlier release left it. Whether masks that are not there yet have them follows from A's.
    """
    from rebasin_lt.pruning.mask import Mask

    signed: dict[str, bool] = {}
    for stage in plan.values():
        if stage.kind != SPARSE.name or stage.path in done or stage.settings.get("signs") != "mask":
            continue
        name, masks = stage.settings["method"], plan[stage.needs[1]]
        file = stage.settings["mask"]
        if masks.path not in done and read_method(name).takes_signs_of_a:
            file = next((path for path in masks.inputs if path.endswith(f"/{Path(file).name}")), file)
        if not any(file.startswith(f"{path}/") for path in (masks.path, *masks.needs) if path in done):
            continue  # it is made by what is left
        if file not in signed:
            signed[file] = Mask.load(folder / file).is_signed
        if not signed[file]:
            raise InputError(
                f"{folder / file} carries no signs, as masks of an earlier release, and {name} begins with them: leave "
                f"{name} out, or have another folder prune anew"
            )


def _of_seed(point: GridPoint, seed: int) -> Iterator[Stage]:
    for cell in point.cells:
        yield sparse_stage(point, cell.method, cell.sparsity, cell.rewind, seed, seed)


def _run(study: Study, stage: Stage, folder: Path) -> None:
    from rebasin_lt.experiment import stages

    settings = stage.settings
    signs: dict[str, Any] = {"signs": settings["signs"]} if "signs" in settings else {}
    if "signs_from" in settings:
        signs["signs_from"] = folder / settings["signs_from"]
    stages.train_sparse(
        folder / stage.path,
        recipe_for(study, stage),
        folder / settings["mask"],
        folder / settings["init_from"],
        settings["seed"],
        stage.epochs,
        **signs,
    )


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
