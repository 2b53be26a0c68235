"""The stages that compare networks as ensembles, and the members that no cell of the grid is."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rebasin_lt.experiment.file_names import FINAL, ticket_name
from rebasin_lt.experiment.methods import ENSEMBLES
from rebasin_lt.judging.losses import without_default
from rebasin_lt.study.grid import Study
from rebasin_lt.study.kinds.dense import dense_stage
from rebasin_lt.study.kinds.imp import imp_stage
from rebasin_lt.study.kinds.sparse import mask_stage, sparse_stage
from rebasin_lt.study.stage import GridPoint, Stage, StageKind, about, measured, recipe_for


def _of_width(point: GridPoint) -> Iterator[Stage]:
    study = point.study
    if study.diversity is not None:
        for sparsity in study.diversity.get("sparsities", study.recipe.targets):
            for rewind in study.diversity.get("rewinds", study.recipe.rewinds):
                yield from _ensembles(point, sparsity, rewind)


def _ensembles(point: GridPoint, sparsity: float, rewind: str) -> Iterator[Stage]:
    """The members of every setting (paper, Appendix C), and the stage that measures them.

    A is that of the first seed, B_i those of all. *imp*: the tickets of the B_i; *lth*: A in the data orders of all
    seeds; *permuted*, *naive* and others: every B_i under A's mask, or one of its own.
    """
    study = point.study
    members: dict[str, list[str]] = {}
    needs: list[Stage] = []
    for seed in study.seeds:
        stages, files = _members(point, sparsity, rewind, seed)
        needs += stages
        for name, file in files.items():
            members.setdefault(_setting(study, name), []).append(file)
    yield from needs
    yield point.stage(
        DIVERSITY_KIND,
        None,
        f"sparsity={sparsity:g},rewind={rewind},members={len(study.seeds)}",
        needs=tuple(dict.fromkeys(stage.path for stage in needs)),
        settings={"members": members, "sparsity": sparsity, "rewind": rewind},
        inputs=tuple(dict.fromkeys(path for paths in members.values() for path in paths)),
    )


def _members(point: GridPoint, sparsity: float, rewind: str, seed: int) -> tuple[list[Stage], dict[str, str]]:
    """What the members of one repetition need, and the file of each by its name, in the order of the study."""
    study = point.study
    first, dense, imp = study.seeds[0], dense_stage(point, seed, "b"), imp_stage(point, seed, "b")
    methods = {name: study.trained[name] for name in study.compared if name not in ENSEMBLES}
    masks = [mask_stage(point, method.base, rewind, first, seed)[0] for method in methods.values()]
    sparse = {name: sparse_stage(point, name, sparsity, rewind, first, seed) for name in methods}
    own = [imp] if "imp" in study.compared else []
    needs = [dense_stage(point, first, "a"), dense, imp_stage(point, first, "a"), *own, *masks, *sparse.values()]
    files = {
        **{"dense": f"{dense.path}/{FINAL}", "imp": f"{imp.path}/imp/{ticket_name(sparsity)}"},
        **{name: f"{stage.path}/{FINAL}" for name, stage in sparse.items()},
    }
    return needs, {name: files[name] for name in study.compared}


def _setting(study: Study, name: str) -> str:
    """What a member's setting is called: `permuted` for the matcher where the study does not name its methods."""
    diversity = study.diversity or {}
    return "permuted" if "methods" not in diversity and name == diversity.get("matcher") else name


def _run(study: Study, stage: Stage, folder: Path) -> None:
    from rebasin_lt.lit.checkpoint import network_hash
    from rebasin_lt.storage.run_folder import run_once

    members = {name: [folder / path for path in paths] for name, paths in stage.settings["members"].items()}
    states = {name: list(map(network_hash, paths)) for name, paths in members.items()}
    said = {name: stage.settings[name] for name in ("sparsity", "rewind", "members")}
    said |= without_default({"loss": study.recipe.loss})
    run_once(folder / stage.path, {**said, "sha256": states}, lambda: measured(recipe_for(study, stage), members))


def _read(study: Study, stage: Stage, result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    cell = {name: stage.settings[name] for name in ("sparsity", "rewind")}
    for setting, found in result["settings"].items():
        accuracies = found["member_accuracy"]
        row = about(stage, **cell, setting=setting, members=len(accuracies), accuracy=statistics.fmean(accuracies))
        yield (
            "diversity",
            {
                **{**row, "accuracy_std": statistics.stdev(accuracies)},
                **{name: found[name] for name in ("disagreement", "kl", "js")},
                "disagreement_std": _std_of_pairs(found["disagreement_matrix"]),
                "ensemble": found["ensemble_accuracy"],
            },
        )


def _std_of_pairs(matrix: Sequence[Sequence[float]]) -> float | None:
    """The sample standard deviation over unordered pairs, of a symmetric matrix; None for a single pair."""
    pairs = [row[column] for index, row in enumerate(matrix) for column in range(index)]
    return statistics.stdev(pairs) if len(pairs) > 1 else None


DIVERSITY_KIND = StageKind(
    "diversity",
    "compare networks as ensembles",
    run=_run,
    read=_read,
    of_width=_of_width,
    needs=("dense", "imp", "match", "sparse"),
)
