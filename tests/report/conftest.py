"""A study that never ran: plausible numbers for every part of a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

from rebasin_lt.study.outcome import StudyOutcome

LEVELS = {"lth": 0.93, "permuted": 0.915, "naive": 0.90}
ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.fixture(scope="session")
def make_outcome() -> Callable[..., StudyOutcome]:
    return synthetic


def synthetic(
    *,
    widths: Sequence[float] = (1, 4),
    seeds: Sequence[int] = (0, 1, 2),
    sparsities: Sequence[float] = (0.9, 0.97),
    rewinds: Sequence[str] = ("1ep", "10ep", "20ep"),
    methods: Sequence[str] = ("lth", "permuted", "naive"),
    matchers: Sequence[str] = ("permuted",),
    dataset: str = "cifar10",
    arch: str = "resnet20",
    num_classes: int = 10,
    done: bool = True,
) -> StudyOutcome:
    """A finished study of these; the noise of a seed is alike for all methods, so that pairs differ less."""
    widths = tuple(map(float, widths))  # as a study has them
    noise = np.random.default_rng(0).normal(0, 0.002, 10_000).tolist()
    sparse = [
        _run(noise, width, seed, method, sparsity, rewind, rewinds.index(rewind))
        for width, seed, method, sparsity, rewind in product(widths, seeds, methods, sparsities, rewinds)
    ]
    dense = [
        {"width": width, "seed": seed, "role": role, "top1": 0.93 + 0.01 * width / 4 + noise.pop(), "top5": 0.99}
        for width, seed, role in product(widths, seeds, "ab")
    ]
    pruned = [
        {"width": width, "seed": seed, "role": "a", "target": target, "top1": 0.92 + noise.pop(), "top5": 0.99}
        for width, seed, target in product(widths, seeds, sparsities)
    ]
    kinds = {"dense": len(dense), "imp": len(widths) * len(seeds), "sparse": len(sparse)}
    recipe = {
        "data": {"name": dataset},
        "network": {"arch": arch, "num_classes": num_classes},
        "targets": list(sparsities),
        "rewinds": list(rewinds),
        "dense_epochs": 200,
    }
    return StudyOutcome(
        title="A study that never ran",
        settings={
            **{"seeds": list(seeds), "widths": list(widths), "methods": list(methods), "recipe": recipe},
            "matchers": {"permuted": {}, "permuted_paper": {"preset": "paper"}},
        },
        stages=[
            {"kind": kind, "path": f"{kind}/{index}", "epochs": 200, "images": 9_000_000, "done": done}
            for kind, count in kinds.items()
            for index in range(count)
        ],
        dense=dense,
        pruned=pruned,
        sparse=sparse,
        matches=[_match(width, seed, matcher, sparsities) for width, seed, matcher in product(widths, seeds, matchers)],
        barriers=[
            _line(noise, *key)
            for key in product(widths, seeds, matchers, ("train", "test"), ("none", "bn_reset"), ("before", "after"))
        ],
        diversity=[
            _setting(width, name) for width, name in product(widths, ("dense", "imp", "lth", "permuted", "naive"))
        ],
        prices=[
            {"method": "A", "rewind": None, "dense": 200, "pruning": 950, "sparse": 0},
            *(
                {"method": name, "rewind": rewind, "dense": 200, "pruning": 0, "sparse": 180}
                for name, rewind in product(dict.fromkeys([*methods, "dense", "imp"]), rewinds)
            ),
        ],
    )


def _run(
    noise: list[float], width: float, seed: int, method: str, sparsity: float, rewind: str, late: int
) -> dict[str, Any]:
    level = LEVELS.get(method, 0.895 + 0.003 * (len(method) % 5)) - 0.3 * (sparsity - 0.9) + 0.005 * width
    top1 = min(level + 0.003 * late * (method != "naive") + 0.003 * seed + noise.pop(), 1.0)
    place = {"width": width, "seed": seed, "method": method, "sparsity": sparsity, "rewind": rewind}
    return {**place, "top1": top1, "top5": min(1.0, top1 + 0.05)}


def _match(width: float, seed: int, matcher: str, sparsities: Sequence[float]) -> dict[str, Any]:
    masks = [
        {"target": target, "permuted": 0.2 + 0.01 * seed, "unpermuted": 0.06, "independent": 0.05}
        for target in sparsities
    ]
    found = {"objective": {"conv.weight": 0.5}, "sizes": {"conv.weight": 16}, "masks": masks}
    return {"width": width, "seed": seed, "matcher": matcher, **found}


def _line(
    noise: list[float], width: float, seed: int, matcher: str, split: str, correction: str, when: str
) -> dict[str, Any]:
    height = (
        (3.0 if when == "before" else 1.2 / width) * (1.0 if correction == "none" else 0.6) * (1 + 20 * noise.pop())
    )
    loss = [0.2 + 4 * height * alpha * (1 - alpha) for alpha in ALPHAS]
    error = [0.08 + height * alpha * (1 - alpha) for alpha in ALPHAS]
    key = {"width": width, "seed": seed, "matcher": matcher, "split": split, "correction": correction, "when": when}
    return {**key, "alphas": ALPHAS, "loss": loss, "error": error, "loss_barrier": height, "error_barrier": height / 4}


def _setting(width: float, name: str) -> dict[str, Any]:
    place = {"width": width, "sparsity": 0.9, "rewind": "20ep", "setting": name, "members": 5}
    accuracy = {"accuracy": 0.91, "accuracy_std": 0.001, "ensemble": 0.93}
    apart = 0.1 + 0.01 * len(name)
    return {**place, **accuracy, "disagreement": apart, "disagreement_std": 0.004, "kl": 0.3, "js": 0.1}
