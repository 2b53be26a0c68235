"""The sparsities that a chain of pruning passes through."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rebasin_lt.errors import InputError


def waypoints(targets: Sequence[float], fraction: float, start: float = 0.0) -> list[float]:
    """Sparsity after each round of iterative pruning: `fraction` of what is left per round, every target hit exactly.

    The chain 1−(1−f)^r is cut at each target and goes on from there, so one run serves all targets. The masks beyond
    the first target are therefore not those of separate runs, which would not have stopped there. `start` is the
    sparsity before the first round. Raises InputError unless the targets increase within (start, 1) and the fraction
    lies between 0.0001, already 23,000 rounds to 0.9, and 1.
    """
    if not 1e-4 <= fraction < 1:
        raise InputError(f"imp fraction is {fraction}, expected a number between 0 and 1, at least 0.0001")
    if not targets or not all(0 < target < 1 for target in targets):
        raise InputError(f"imp targets are {list(targets)}, expected sparsities between 0 and 1")
    if any(later <= earlier for earlier, later in pairwise(targets)):
        raise InputError(f"imp targets are {list(targets)}, expected increasing sparsities")
    if targets[0] <= start:
        raise InputError(f"imp targets are {list(targets)}, but the mask to start from is at {start:.4f} already")
    rounds: list[float] = []
    sparsity = start
    for target in targets:
        while sparsity < target:
            sparsity = 1 - (1 - sparsity) * (1 - fraction)
            if sparsity > target - 1e-9:  # a chain that lands on the target must not need a round more for rounding
                sparsity = target
            rounds.append(sparsity)
    return rounds


def target_of(removed: int, weights: int) -> float:
    """The shortest target, of three decimals or more, at which pruning removes this number of the weights.

    >>> target_of(95_004, 100_004), target_of(950, 1_000)
    (0.95, 0.95)
    >>> target_of(99_996, 100_000)
    0.99996
    """
    sparsity = removed / max(1, weights)
    shorter = (round(sparsity, decimals) for decimals in range(3, 16))
    return next((target for target in shorter if round(target * weights) == removed and 0 < target < 1), sparsity)


def check_names_of_files(targets: Sequence[float]) -> None:
    """Raise InputError for two targets whose files would have one name."""
    names = [f"{target:g}" for target in targets]
    for target, name in zip(targets, names, strict=True):
        if names.count(name) > 1:
            raise InputError(f"imp targets hold {target} and another that files call {name}, too: leave one out")
