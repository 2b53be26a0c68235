"""Doing one stage of a study, whoever asks for it: a worker here, or a task on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rebasin_lt.analyses.barrier import Barrier, measure_barriers
from rebasin_lt.analyses.control import write_control
from rebasin_lt.analyses.diversity import measure, open_test
from rebasin_lt.analyses.permute import Alignment, align
from rebasin_lt.experiment import stages
from rebasin_lt.experiment.control_kinds import control_kind
from rebasin_lt.experiment.controls import Control
from rebasin_lt.experiment.file_names import FINAL, mask_name
from rebasin_lt.experiment.matcher import matcher_of
from rebasin_lt.lit.checkpoint import load_network, network_state, read_checkpoint
from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.process.ranks import rank
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.storage.links import check_inside
from rebasin_lt.storage.run_folder import run_once
from rebasin_lt.study.grid import Study
from rebasin_lt.study.record import check_outputs, record, taken
from rebasin_lt.study.stage import Stage


def run_stage(study: Study, stage: Stage, folder: Path) -> None:
    """Do `stage` below the study's `folder`, unless it is complete; then have its result say what it was made from.

    Raises what the stage raises: InputError where the folder holds another run, Preempted where it was told to stop;
    also InputError where a link leads out of the study's folder, and BrokenFileError where a file of the stage is not
    what it wrote.
    """
    check_inside(folder, stage.path)
    check_outputs(folder, stage)
    made_from = taken(folder, stage)
    _KINDS[stage.kind](study, stage, folder)
    if rank() == 0:  # another process that trains along may be here before the result is
        record(folder, stage, made_from)


def barrier_of(study: Study) -> Barrier:
    """What a study says about its barriers, without the networks."""
    chosen = {name: value for name, value in (study.barrier or {}).items() if name != "matchers"}
    for name in ("corrections", "splits"):
        if chosen.get(name) is not None:
            chosen[name] = tuple(chosen[name])
    return Barrier(ckpt_a="", ckpt_b="", **chosen)


def _dense(study: Study, stage: Stage, folder: Path) -> None:
    stages.train_dense(folder / stage.path, study.recipe_of(stage.width), stage.settings["seed"])


def _imp(study: Study, stage: Stage, folder: Path) -> None:
    dense = folder / stage.settings["dense"]
    stages.prune(folder / stage.path, study.recipe_of(stage.width), dense, stage.settings["seed"])


def _sparse(study: Study, stage: Stage, folder: Path) -> None:
    settings = stage.settings
    stages.train_sparse(
        folder / stage.path,
        study.recipe_of(stage.width),
        folder / settings["mask"],
        folder / settings["init_from"],
        settings["seed"],
        stage.epochs,
    )


def _match(study: Study, stage: Stage, folder: Path) -> None:
    settings = study.matchers[stage.settings["matcher"]]
    at = settings.get("at", "final")
    dense_b = folder / stage.settings["b"]
    masks = [stages.mask_file(folder / stage.settings["imp"], target) for target in study.recipe.targets]
    alignment = Alignment(
        ckpt_a=str(folder / stage.settings["a"] / FINAL),
        ckpt_b=str(dense_b / FINAL if at == "final" else stages.rewind_file(dense_b, at)),
        masks=tuple(map(str, masks)),
        model=study.recipe.own_code,
        data=study.recipe.own_data,
        matcher=matcher_of(settings, stage.settings["seed"]),
        root=study.recipe.data.get("root"),
        num_images=settings.get("num_images"),
        batch_size=settings.get("batch_size", 500),
        num_alphas=0,
    )
    align(alignment, folder / stage.path)


def _barrier(study: Study, stage: Stage, folder: Path) -> None:
    settings = replace(
        barrier_of(study),
        ckpt_a=str(folder / stage.settings["a"] / FINAL),
        ckpt_b=str(folder / stage.settings["b"] / FINAL),
        permutation=str(folder / stage.settings["match"] / "permutation.perm.safetensors"),
        model=study.recipe.own_code,
        data=study.recipe.own_data,
        root=study.recipe.data.get("root"),
    )
    measure_barriers(settings, folder / stage.path)


def _control(study: Study, stage: Stage, folder: Path) -> None:
    """The control masks of every sparsity, each drawn with the same seed."""
    settings, kind = stage.settings, control_kind(stage.settings["kind"])
    dense_b = folder / settings["b"]
    weights = stages.rewind_file(dense_b, settings["rewind"]) if settings["rewind"] else dense_b / FINAL
    options: dict[str, Any] = {"seed": settings["seed"]} if "seed" in kind.uses else {}
    if "ckpt" in kind.needs:
        options["ckpt"] = str(weights)
        if study.recipe.own_code:
            options["model"] = study.recipe.own_code
    if "root" in kind.uses and study.recipe.own_data:
        options["data"] = study.recipe.own_data
    if "root" in kind.uses and study.recipe.data.get("root"):
        options["root"] = study.recipe.data["root"]
    sources = {target: stages.mask_file(folder / settings["imp"], target) for target in study.recipe.targets}
    contents: dict[str, Any] = {"sha256_masks": [Mask.load(path).hash for path in sources.values()]}
    if "ckpt" in options:
        contents["sha256_ckpt"] = hash_tensors(network_state(read_checkpoint(weights)))

    def work() -> dict[str, Any]:
        out = {target: folder / stage.path / mask_name(target) for target in sources}
        for target, path in sources.items():
            out[target].unlink(missing_ok=True)  # of a run that was killed
            write_control(Control(kind=settings["kind"], mask=str(path), **options), out[target])
        return {"sparsity": {f"{target:g}": Mask.load(path).sparsity for target, path in out.items()}}

    about = {"kind": settings["kind"], "rewind": settings["rewind"], **options, **contents}
    run_once(folder / stage.path, about, work, stage.outputs, but=("ckpt", "root"))


def _diversity(study: Study, stage: Stage, folder: Path) -> None:
    members = {name: [folder / path for path in paths] for name, paths in stage.settings["members"].items()}
    states = {
        name: [hash_tensors(network_state(read_checkpoint(path))) for path in paths] for name, paths in members.items()
    }

    def work() -> dict[str, Any]:
        code = study.recipe.own_code
        networks = {name: [load_network(path, code).network for path in paths] for name, paths in members.items()}
        return measure(networks, open_test(build_data(**study.recipe.data)))

    about = {name: stage.settings[name] for name in ("sparsity", "rewind", "members")}
    run_once(folder / stage.path, {**about, "sha256": states}, work)


_KINDS: Mapping[str, Callable[[Study, Stage, Path], None]] = {
    "dense": _dense,
    "imp": _imp,
    "match": _match,
    "control": _control,
    "sparse": _sparse,
    "barrier": _barrier,
    "diversity": _diversity,
}
