"""The stages that make control masks for B, as large as A's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rebasin_lt.experiment.controls import control_kind
from rebasin_lt.experiment.file_names import mask_name
from rebasin_lt.experiment.methods import kind_of_control
from rebasin_lt.experiment.signed_methods import read_method
from rebasin_lt.moment import END
from rebasin_lt.settings.options import ControlOptions
from rebasin_lt.study.grid import Study
from rebasin_lt.study.kinds.dense import dense_stage, weights_of
from rebasin_lt.study.kinds.imp import imp_stage
from rebasin_lt.study.stage import GridPoint, Stage, StageKind, code_of, recipe_for, stage_seed


def control_stage(point: GridPoint, method: str, a: int, b: int, rewind: str) -> Stage:
    """The masks of one control, of every sparsity; of every moment, where it looks at the weights there.

    They are as large as those of A of repetition `a`, and made for B of repetition `b`.
    """
    dense_b, imp = dense_stage(point, b, "b"), imp_stage(point, a, "a").path
    kind = kind_of_control(method) or method
    looks_at = control_kind(kind).weights
    moment = rewind if looks_at == "rewound" else None
    name = method if moment is None else f"{method},rewind={moment}"
    masks = tuple(mask_name(target) for target in point.recipe.targets)
    end = point.study.b_ends_at if looks_at == "any" else None
    weights = weights_of(dense_b, moment or end or END)
    settings = {"kind": kind, "b": dense_b.path, "weights": weights, "imp": imp, "rewind": moment}
    return point.stage(
        CONTROL,
        a,
        *("controls", name),
        b=b,
        needs=(dense_stage(point, a, "a").path, dense_b.path, imp),
        outputs=masks,
        settings={**settings, "seed": stage_seed(b, "control")},
        inputs=(*(f"{imp}/imp/{mask}" for mask in masks), *([] if looks_at == "none" else [weights])),
    )


def _of_seed(point: GridPoint, seed: int) -> Iterator[Stage]:
    for cell in point.cells:
        base = read_method(cell.method).base
        if kind_of_control(base) is not None:
            yield control_stage(point, base, seed, seed, cell.rewind)


def _run(study: Study, stage: Stage, folder: Path) -> None:
    """The control masks of every sparsity, each drawn with the same seed."""
    from rebasin_lt.analyses.control import write_control
    from rebasin_lt.experiment import stages
    from rebasin_lt.pruning.mask import Mask
    from rebasin_lt.storage.run_folder import run_once

    settings = stage.settings
    options, contents = _options(study, stage, folder)
    sources = {target: stages.mask_file(folder / settings["imp"], target) for target in study.recipe.targets}
    contents = {"sha256_masks": [Mask.load(path).hash for path in sources.values()], **contents}

    def work() -> dict[str, Any]:
        out = {target: folder / stage.path / mask_name(target) for target in sources}
        for target, path in sources.items():
            out[target].unlink(missing_ok=True)  # of a run that was killed
            write_control(ControlOptions(kind=settings["kind"], mask=str(path), **options), out[target])
        return {"sparsity": {f"{target:g}": Mask.load(path).sparsity for target, path in out.items()}}

    said = {"kind": settings["kind"], "rewind": settings["rewind"], **options, **contents}
    run_once(folder / stage.path, said, work, stage.outputs, but=("ckpt", "root"))


def _options(study: Study, stage: Stage, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the control, and the hash of the weights that it looks at."""
    from rebasin_lt.experiment.dataset import reading_settings
    from rebasin_lt.lit.checkpoint import network_hash
    from rebasin_lt.lit.data.registry import is_of_images

    settings, kind, recipe = stage.settings, control_kind(stage.settings["kind"]), recipe_for(study, stage)
    weights = folder / settings["weights"]
    options: dict[str, Any] = {"seed": settings["seed"]} if "seed" in kind.uses else {}
    contents = {}
    if "ckpt" in kind.needs:
        options["ckpt"] = str(weights)
        contents["sha256_ckpt"] = network_hash(weights)
        code, sizes = code_of(recipe)
        options |= {"model": code, **sizes} if code else {}
    if "num_images" in kind.uses or ("root" in kind.uses and not is_of_images(recipe.data["name"])):
        options |= {"data": recipe.own_data} if recipe.own_data else {}
        options |= {"root": recipe.data["root"]} if recipe.data.get("root") else {}
        options |= {name: value for name, value in reading_settings(recipe.data).items() if name in kind.uses}
    return options, contents


CONTROL = StageKind(
    "control",
    "make control masks for B, as large as A's",
    run=_run,
    of_seed=_of_seed,
    needs=("dense", "imp"),
    training="prune",
)
