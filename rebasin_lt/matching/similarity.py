"""How alike the units of one group are, over all points at which they are observed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from rebasin_lt.matching.moments import CrossMoments
from rebasin_lt.matching.objectives import OBJECTIVES
from rebasin_lt.matching.paper import PaperMoments
from rebasin_lt.matching.reached import ReachedMoments


@dataclass(frozen=True)
class GroupSimilarity:
    """The summed similarity of a group's units, and what it takes to say how good an assignment is."""

    matrix: Tensor  # (reference units, source units), fp64, on the CPU; summed over points, 0 where either is dead
    scale: float  # turns it into units of a correlation: summed over matched units it is at most their number
    lives: tuple[tuple[Tensor, Tensor], ...]  # per point, live units of the source and of the reference; (n,), bool

    @property
    def live(self) -> tuple[Tensor, Tensor]:
        """The units of the source and of the reference that are live at any point; twice (n,), bool."""
        dead = torch.zeros(len(self.matrix), dtype=torch.bool)
        source, reference = zip(*self.lives, strict=True) if self.lives else ((), ())
        return sum(source, start=dead), sum(reference, start=dead)

    def live_pairs(self, indices: Tensor) -> Tensor:
        """Which reference units are live and matched to a live source unit; shape (n,), bool."""
        source, reference = self.live
        return reference & source[indices]

    def mean(self, indices: Tensor) -> float:
        """The mean similarity of matched live pairs over their points; 0 where none is live."""
        num_pairs = sum(int((reference & source[indices]).sum()) for source, reference in self.lives)
        matched = float(self.matrix.gather(1, indices[:, None]).sum())
        return matched / num_pairs if num_pairs else 0.0


def group_similarity(
    num_units: int, statistics: Iterable[CrossMoments | PaperMoments | ReachedMoments], objective: str
) -> GroupSimilarity:
    """Sum the similarities of all observations, from activations that are finite, as `stream` sees to.

    `objective` is a name of OBJECTIVES; a pair in which either unit is dead has similarity 0.
    """
    matrix: Tensor | None = None
    record, lives, powers = OBJECTIVES[objective], [], torch.zeros(2, dtype=torch.float64)
    for moments in statistics:
        sides = (moments.source, moments.reference)
        similar = record.similarity(moments)
        similar[~moments.reference.live] = 0.0  # in place: a wide layer's matrix is large
        similar[:, ~moments.source.live] = 0.0
        matrix = similar.cpu() if matrix is None else matrix.add_(similar.cpu())
        lives.append((moments.source.live.cpu(), moments.reference.live.cpu()))
        powers += torch.stack([record.power(side).cpu() for side in sides])
    if matrix is None:
        matrix = torch.zeros(num_units, num_units, dtype=torch.float64)
    norm = float(powers.prod().sqrt())
    return GroupSimilarity(matrix, 1 / norm if norm > 0 else 0.0, tuple(lives))
