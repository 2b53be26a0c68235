"""The stages that take over a network or masks that exist, as if they had been trained or pruned here."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.file_names import FINAL, mask_name, rewind_name
from rebasin_lt.experiment.metrics import metrics_of
from rebasin_lt.judging.losses import without_default
from rebasin_lt.study.given import given_path
from rebasin_lt.study.grid import Study
from rebasin_lt.study.stage import (
    ROLES,
    GridPoint,
    Stage,
    StageKind,
    about,
    measured_alone,
    points_of,
    recipe_for,
)

if TYPE_CHECKING:
    from rebasin_lt.pruning.mask import Mask


def given_network(point: GridPoint, seed: int, role: str) -> Stage:
    """A network of a repetition that is given, with those of its moments that something begins from."""
    study = point.study
    moments = study.moments_of(role)
    source = given_path(study.given or {}, role, study.seeds, seed)
    return Stage(
        point.path(GIVEN_KIND, seed, f"dense_{role}"),
        GIVEN_KIND.name,
        point.width,
        outputs=(FINAL, *map(rewind_name, moments)),
        settings={"given": role, "sources": {"network": source}, "moments": moments, "repetition": seed, "role": role},
    )


def given_mask(point: GridPoint, seed: int) -> Stage:
    """The masks of A in a repetition that are given, one for each target sparsity."""
    study = point.study
    targets = study.recipe.targets
    sources = {target: given_path(study.given or {}, "mask", study.seeds, seed, target) for target in targets}
    return Stage(
        point.path(GIVEN_KIND, seed, "imp_a"),
        GIVEN_KIND.name,
        point.width,
        outputs=tuple(f"imp/{mask_name(target)}" for target in targets),
        settings={"given": "mask", "sources": sources, "repetition": seed, "role": "a"},
    )


def network_row(stage: Stage, result: dict[str, Any]) -> dict[str, Any]:
    """What an outcome says of a network of one role."""
    settings = stage.settings
    return {**about(stage, seed=settings["repetition"], role=settings["role"]), **metrics_of(result)}


def check_sources(study: Study, done: Container[str] = ()) -> None:
    """Raise InputError for networks and masks that are not there or do not fit the recipe; those of stages that are
    `done` lie in the study."""
    from rebasin_lt.experiment.takeover import network_content, network_files, open_mask

    for stage in (each for each in _stages(study) if each.path not in done):
        where, recipe, sources = _where(stage), recipe_for(study, stage), stage.settings["sources"]
        if where == "given.mask":
            for target, path in sources.items():
                _check_signs(study, path, open_mask(where, Path(path), recipe, target))
        else:
            for path in network_files(where, Path(sources["network"]), stage.settings["moments"]).values():
                network_content(where, path, recipe)


def _check_signs(study: Study, path: str, mask: Mask) -> None:
    """Raise InputError for a mask without signs that a method takes its signs from."""
    for name, method in study.trained.items():
        if method.takes_signs_of_a and not mask.is_signed:
            raise InputError(
                f"given.mask is {path}, which carries no signs, and {name} begins with them: give a mask that IMP of "
                f"this release left, or leave out {name}"
            )


def check_same_sources(study: Study, folder: Path) -> None:
    """Raise InputError for a network or mask that is not, by its tensors, the one that the study in `folder` took."""
    from rebasin_lt.storage.run_folder import CONFIG, read_config

    for stage in _stages(study):
        place = folder / stage.path / CONFIG
        taken = read_config(place) if place.is_file() else None
        if taken is not None and not all(_agree(taken.get(name), value) for name, value in _hashes(stage).items()):
            raise InputError(
                f"output folder {folder} holds another study: {_where(stage)} has other tensors here than "
                f"{taken['given']} had there; choose another folder"
            )


def _agree(there: Mapping[str, str] | None, here: Mapping[str, str]) -> bool:
    """Whether what is known of both is equal; a study that grows may need moments that were not taken before."""
    return there is not None and all(there.get(name, value) == value for name, value in here.items())


def _where(stage: Stage) -> str:
    """The setting that names what a stage takes over."""
    return f"given.{stage.settings['given']}"


def _hashes(stage: Stage) -> dict[str, dict[str, str]]:
    """What the sources of a stage hold, as its configuration says it."""
    from rebasin_lt.experiment.takeover import network_files
    from rebasin_lt.lit.checkpoint import network_hash
    from rebasin_lt.pruning.mask import Mask

    sources = stage.settings["sources"]
    if stage.settings["given"] == "mask":
        return {"sha256_masks": {f"{target:g}": Mask.load(path).hash for target, path in sources.items()}}
    files = network_files(_where(stage), Path(sources["network"]), stage.settings["moments"])
    return {"sha256": {name: network_hash(path) for name, path in files.items()}}


def _stages(study: Study) -> Iterator[Stage]:
    given = study.given or {}
    for point, seed in product(points_of(study), study.seeds):
        yield from (given_network(point, seed, role) for role in ROLES if role in given)
        if "mask" in given:
            yield given_mask(point, seed)


def _run(study: Study, stage: Stage, folder: Path) -> None:
    run = _run_mask if stage.settings["given"] == "mask" else _run_network
    run(study, stage, folder / stage.path)


def _run_network(study: Study, stage: Stage, place: Path) -> None:
    from rebasin_lt.experiment.takeover import network_files, take_network
    from rebasin_lt.storage.run_folder import CONFIG, read_config, run_once

    where, recipe = _where(stage), recipe_for(study, stage)
    source = stage.settings["sources"]["network"]
    files = network_files(where, Path(source), stage.settings["moments"])

    def work() -> dict[str, Any]:
        take_network(where, place, files, recipe)
        return measured_alone(recipe, place / FINAL)

    said = {"network": recipe.network, "data": recipe.data, **without_default({"loss": recipe.loss}), **_hashes(stage)}
    known = read_config(place / CONFIG).get("sha256", {}) if (place / CONFIG).is_file() else said["sha256"]
    more = {f"sha256.{name}" for name in known.keys() ^ said["sha256"].keys()}  # moments that another study needed
    run_once(place, {"given": source, **said}, work, stage.outputs, but=("given", "data.root", *more))


def _run_mask(study: Study, stage: Stage, place: Path) -> None:
    from rebasin_lt.experiment.takeover import open_mask
    from rebasin_lt.storage.run_folder import run_once

    recipe, sources = recipe_for(study, stage), stage.settings["sources"]
    masks = {target: open_mask("given.mask", Path(path), recipe, target) for target, path in sources.items()}

    def work() -> dict[str, Any]:
        for target, mask in masks.items():
            mask.save(place / "imp" / mask_name(target), origin="given")
        return {"sparsity": {f"{target:g}": mask.sparsity for target, mask in masks.items()}}

    run_once(place, {"given": list(sources.values()), **_hashes(stage)}, work, stage.outputs, but=("given",))


def _read(study: Study, stage: Stage, result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if stage.settings["given"] != "mask":
        yield "dense", network_row(stage, result)


GIVEN_KIND = StageKind(
    "given",
    "take over a network or masks that exist",
    run=_run,
    read=_read,
    training="dense",
)
