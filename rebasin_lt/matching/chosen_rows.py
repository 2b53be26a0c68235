"""Rows of activations that hold other tokens in each network, because its router chose them: they compare nothing.

Where each expert takes the tokens that it scores highest, or the first that come to it, row k of what it does is of
another token in another network. What tells, whatever way the tokens come there: let all experts be one and the same,
and change their places. No token's activations change by that, but a row that holds a token of an expert's choice does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.matching.reduction import summed
from rebasin_lt.matching.same_tokens import rows_of_same_tokens
from rebasin_lt.matching.shared import merged_experts
from rebasin_lt.symmetry.mixtures import find_mixtures
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry

_CALLS = 4  # of each process, that are looked at
_ENOUGH = 0.5  # of the rows that show in both, if they are of the same tokens


class ChosenRows:
    """Looks for them in the first calls of a pass, at every observation of a network with experts that change places.

    In other networks it costs nothing. Units of experts themselves, such as a router's scores, are not looked at, nor
    observations with a `Route`, which says of what sample each row is.
    """

    def __init__(self, state: Mapping[str, Tensor], symmetry: Symmetry) -> None:
        self._symmetry, self._calls = symmetry, 0
        mixtures = [mixture for mixture in find_mixtures(symmetry) if mixture.path] if symmetry.within else []
        experts = {group for mixture in mixtures for group in mixture.path}
        self._states: list[dict[str, Tensor]] = []
        self._counts: dict[tuple[str, int], Tensor] = {}  # rows that show in both, and those that are of the same token
        if mixtures:
            alike, stay = merged_experts(state, symmetry), symmetry.identity()  # a mean is alive where one is dead
            moved = {group: index.roll(1, -1) if group in experts else index for group, index in stay.items()}
            self._states = [alike, symmetry.permute(alike, Permutation(moved, symmetry.within))]
            self._points = {  # row by row of each expert, where a pass has a mean over them
                group: [replace(point, reduced=()) for point in points]
                for group, points in symmetry.observations.items()
            }
            self._counts = {
                (group, k): torch.zeros(2, dtype=torch.float64)
                for group, points in self._points.items()
                for k, point in enumerate(points)
                if point.route is None and group not in experts
            }

    def look(self, call: ForwardCall) -> None:
        """Count the rows of one call; those after the first few are not looked at."""
        if self._states and self._calls < _CALLS:
            self._calls += 1
            self._symmetry.observe(self._states, call, self._visit, self._points)

    def _visit(self, group: str, k: int, units: list[Any]) -> None:
        if (group, k) in self._counts:
            of_each = [found.reshape(-1, self._symmetry.groups[group]) for found in units]  # a row for each expert
            both, same = rows_of_same_tokens(*of_each)
            self._counts[group, k] += torch.tensor([both, same], dtype=torch.float64)

    def points(self) -> set[tuple[str, int]]:
        """The observations, by group and number, that have such rows; every process of a group must ask."""
        if not self._counts:
            return set()
        both, same = summed(torch.stack([*self._counts.values()])).unbind(1)
        return {point for point, own in zip(self._counts, (same < _ENOUGH * both).tolist(), strict=True) if own}
