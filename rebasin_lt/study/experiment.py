"""The whole experiment over paired seeds: dense A and B, IMP, matching, every sparse solution and its controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch

from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.models.registry import default_input_shape
from rebasin_lt.progress_line import ProgressLine
from rebasin_lt.pruning.magnitude import one_shot_like
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.shuffles import permute_randomly, shuffle_layerwise
from rebasin_lt.study import stages
from rebasin_lt.study.alignment import Alignment, align
from rebasin_lt.study.recipe import Recipe
from rebasin_lt.symmetry.trace import trace_symmetry

METHODS = ("lth", "permuted", "naive", "b_magnitude", "random_permutation", "shuffled")
_SHARED_STAGES = 5  # dense A, dense B, pruning, matching, controls


@dataclass
class Outcome:
    """What an experiment measured; accuracies are fractions of the test images."""

    records: list[dict[str, Any]] = field(default_factory=list)  # seed, sparsity, method, accuracy
    dense: list[float] = field(default_factory=list)  # of every A and B
    alignments: list[Mapping[str, Any]] = field(default_factory=list)  # one per seed


def run_experiment(folder: Path, recipe: Recipe, num_seeds: int) -> Outcome:
    """Run what is not complete yet under `folder`, one repetition after the other.

    A and B have seeds of their own in every repetition; within one, all sparse runs see the same data order, so that
    methods can be compared in pairs.
    """
    outcome = Outcome()
    total = num_seeds * (_SHARED_STAGES + len(recipe.targets) * len(METHODS))
    with ProgressLine(str(folder)) as line:
        done = count()
        for seed in range(num_seeds):
            for _ in _repetition(folder / f"seed={seed}", recipe, seed, outcome):
                line("stage", next(done) + 1, total)
    return outcome


def _repetition(folder: Path, recipe: Recipe, seed: int, outcome: Outcome) -> Iterator[None]:
    """One pair of networks and all that follows from it; yields after each stage."""
    dense_a, dense_b, pruned, matched = (folder / name for name in ("dense_a", "dense_b", "imp", "match"))
    seeds = {name: 10 * seed + index for index, name in enumerate(("a", "b", "imp", "sparse", "controls"))}
    outcome.dense.append(_accuracy(stages.train_dense(dense_a, recipe, seeds["a"])))
    yield
    outcome.dense.append(_accuracy(stages.train_dense(dense_b, recipe, seeds["b"])))
    yield
    stages.prune(pruned, recipe, dense_a, seeds["imp"])
    yield
    masks = tuple(str(stages.mask_file(pruned, target)) for target in recipe.targets)
    final_a, final_b = (str(dense / stages.FINAL) for dense in (dense_a, dense_b))
    outcome.alignments.append(align(Alignment(ckpt_a=final_a, ckpt_b=final_b, masks=masks), matched))
    yield
    write_controls(
        folder / "controls",
        dense_a / stages.FINAL,
        dense_b / stages.FINAL,
        [Path(mask) for mask in masks],
        seeds["controls"],
    )
    yield
    from_a, from_b = stages.rewind_file(dense_a, recipe.rewinds[-1]), stages.rewind_file(dense_b, recipe.rewinds[-1])
    for target in recipe.targets:
        own = stages.mask_file(pruned, target)
        solutions = {
            "lth": (own, from_a),
            "permuted": (matched / own.name, from_b),
            "naive": (own, from_b),
            "b_magnitude": (folder / "controls" / "b_magnitude" / own.name, from_b),
            "random_permutation": (folder / "controls" / "random_permutation" / own.name, from_b),
            "shuffled": (folder / "controls" / "shuffled" / own.name, from_b),
        }
        for method, (mask, init_from) in solutions.items():
            run = folder / "sparse" / f"method={method},sparsity={target:g}"
            accuracy = _accuracy(
                stages.train_sparse(
                    run, recipe, mask, init_from, seeds["sparse"], recipe.epochs_after(recipe.rewinds[-1])
                )
            )
            outcome.records.append({"seed": seed, "sparsity": target, "method": method, "accuracy": accuracy})
            yield


def write_controls(folder: Path, source: Path, reference: Path, masks: list[Path], seed: int) -> None:
    """Three controls of each of the source's masks, in folders of their names.

    `random_permutation`: under a random consistent permutation of the network. `shuffled`: layer by layer.
    `b_magnitude`: the one-shot magnitude mask of the trained reference, which matching needs anyway, at equal count.
    """
    generator = torch.Generator().manual_seed(seed)
    network, metadata, _ = load_network(source)
    weights = load_network(reference).network.state_dict()
    shape = metadata["input_shape"] or default_input_shape(metadata["arch"])
    symmetry = trace_symmetry(network, torch.zeros(2, *shape))
    own = [Mask.load(path) for path in masks]
    permuted = permute_randomly(own, symmetry, generator)
    for path, mask, moved in zip(masks, own, permuted, strict=True):
        moved.save(folder / "random_permutation" / path.name, source=str(path))
        shuffle_layerwise(mask, generator).save(folder / "shuffled" / path.name, source=str(path))
        one_shot_like(weights, mask).save(folder / "b_magnitude" / path.name, source=str(reference))


def _accuracy(metrics: Mapping[str, float]) -> float:
    return metrics["test/top1"] / 100
