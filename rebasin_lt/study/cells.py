"""The cells of a study's grid: every method at every sparsity and moment, or at those that `only` names for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rebasin_lt.errors import InputError
from rebasin_lt.settings.choices import check_known, check_names
from rebasin_lt.study.axes import check_among, check_lists

CELL_AXES = ("widths", "sparsities", "rewinds")
"""What `only` may name for a method: the axes of its cells, beside seeds, which are compared in pairs."""


class SparseCell(NamedTuple):
    """A sparse run of every seed: a method at a width, from a moment, at a sparsity."""

    width: float
    rewind: str
    sparsity: float
    method: str

    def __str__(self) -> str:
        return f"method={self.method},sparsity={self.sparsity:g},rewind={self.rewind} of width {self.width:g}"


Only = Mapping[str, Any]
"""The cells of some methods, others have all: {permuted_paper: {sparsities: [0.95], rewinds: [2ep]}}.

A list of such places is for cells that are in any of them: {lth: [{rewinds: [2ep]}, {sparsities: [0.95]}]}.
"""


def sparse_cells(grid: Mapping[str, Sequence[Any]], methods: Sequence[str], only: Only) -> Iterator[SparseCell]:
    """The cells that are trained, by width, moment and sparsity; `grid` has the values of each axis of `CELL_AXES`."""
    for width in grid["widths"]:
        for rewind in grid["rewinds"]:
            for sparsity in grid["sparsities"]:
                at = {"widths": width, "rewinds": rewind, "sparsities": sparsity}
                for method in methods:
                    if any(_lies_in(at, place) for place in _places(only.get(method, {}))):
                        yield SparseCell(width, rewind, sparsity, method)


def check_only(grid: Mapping[str, Sequence[Any]], methods: Sequence[str], only: Only) -> None:
    """Raise InputError for a method that is none of the study's, and for values that the grid has not."""
    for method, named in only.items():
        check_known("one of only", method, methods, "the study's methods")
        for place in _places(named):
            if not isinstance(place, Mapping) or not place:
                known = ", ".join(CELL_AXES)
                raise InputError(
                    f"only.{method} is {named!r}, expected some of {known}, each with a list; or a list of such"
                )
            check_names(f"only.{method}", place, CELL_AXES)
            check_lists(f"only.{method}", place, CELL_AXES)
            for axis, values in place.items():
                check_among(f"only.{method}.{axis}", values, grid[axis])


def _places(named: Any) -> Sequence[Any]:
    return named if isinstance(named, list | tuple) and named else [named]


def _lies_in(at: Mapping[str, Any], place: Mapping[str, Sequence[Any]]) -> bool:
    return all(at[axis] in values for axis, values in place.items())
