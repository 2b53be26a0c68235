"""The stages of a study, derived from its grid: each is what determines it, so what cells share is there once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rebasin_lt.study import kinds
from rebasin_lt.study.discovery import records_in
from rebasin_lt.study.grid import Study
from rebasin_lt.study.stage import GridPoint, Stage, StageKind, points_of


def _in_order(records: Mapping[str, StageKind]) -> dict[str, StageKind]:
    """Each after those that it needs."""
    ordered: dict[str, StageKind] = {}

    def add(name: str) -> None:
        for need in records[name].needs:
            add(need)
        ordered.setdefault(name, records[name])

    for name in records:
        add(name)
    return ordered


KINDS: Mapping[str, StageKind] = _in_order(records_in(kinds, StageKind))
"""What stages do, in the order of the plan, which is that of reports."""


def plan(study: Study) -> dict[str, Stage]:
    """Every stage by its path, after those that it needs.

    A and B of a seed have seeds of their own (10·seed and 10·seed + 1); all sparse runs of a seed share their data
    order, so that methods are compared in pairs.
    """
    stages: dict[str, Stage] = {}
    for point in points_of(study):
        for stage in _of_point(point):
            known = stages.setdefault(stage.path, stage)
            assert known == stage, f"two stages share the folder {stage.path}"
    return stages


def _of_point(point: GridPoint) -> Iterator[Stage]:
    """The cells of the grid, if it has any, and what compares repetitions, with what that needs."""
    for seed in point.study.seeds if point.study.methods else ():
        for kind in KINDS.values():
            yield from kind.of_seed(point, seed)
    for kind in KINDS.values():
        yield from kind.of_width(point)
