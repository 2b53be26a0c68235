"""The studies behind docs/results.md, read from the numbers that are committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rebasin_lt.report.kit.statistics import Estimate, paired_difference
from rebasin_lt.report.study.numbers import read_numbers
from rebasin_lt.report.study.runs import Group, Place, group_runs, over_rewinds
from rebasin_lt.report.study.setting import Setting
from rebasin_lt.study.outcome import StudyOutcome

Cells = Mapping[Place, Group]


@dataclass(frozen=True)
class Measured:
    """One study: its name in `configs/results` and `docs/results`, and what came out."""

    name: str
    outcome: StudyOutcome

    @classmethod
    def read(cls, folder: Path) -> Measured:
        return cls(folder.name, read_numbers(folder))

    @property
    def command(self) -> str:
        """What made it."""
        return f"rebasin-lt study --config results/{self.name}.yaml"

    @property
    def setting(self) -> Setting:
        return Setting.of(self.outcome.settings)

    @cached_property
    def runs(self) -> Mapping[float, Cells]:
        """Accuracies by width and place, as fractions."""
        return group_runs(self.outcome.sparse, self.setting.rewinds)

    def cells(self, width: float | None = None) -> Cells:
        """Of a width, or of the study's only one."""
        (own,) = self.runs if width is None else (width,)
        return self.runs[own]

    def groups(
        self, width: float | None = None, sparsity: float | None = None, rewind: str | None = None
    ) -> list[Group]:
        """The cells of a sparsity, of a rewind moment, or of both."""
        return [
            group
            for place, group in self.cells(width).items()
            if sparsity in {None, place.sparsity} and rewind in {None, place.rewind}
        ]

    @property
    def sparsities(self) -> list[float]:
        """Of its cells, and of its ensembles."""
        of_cells = {place.sparsity for cells in self.runs.values() for place in cells}
        return sorted(of_cells | {one["sparsity"] for one in self.outcome.diversity})

    @property
    def rewinds(self) -> list[str]:
        """The rewind moments of its cells and of its ensembles, in the order of its settings: some have no cell."""
        of_cells = {place.rewind for cells in self.runs.values() for place in cells}
        trained = of_cells | {one["rewind"] for one in self.outcome.diversity}
        return [rewind for rewind in self.setting.rewinds if rewind in trained]

    @property
    def seeds(self) -> int:
        return len(self.outcome.settings["seeds"])

    def dense(self, width: float | None = None) -> list[float]:
        """Accuracies of A and B of every seed."""
        return [run["top1"] for run in self.outcome.dense if width in {None, run["width"]}]


def gains(groups: Sequence[Group], name: str, against: str) -> dict[int, float]:
    """By seed, what a method is above another, each averaged over the groups; fractions."""
    means = over_rewinds(groups, [name, against])
    return {seed: value - means[against][seed] for seed, value in means[name].items()}


def growth(
    high: Sequence[Group], low: Sequence[Group], name: str = "permuted", against: str = "naive"
) -> Estimate | None:
    """What a method gains over another in some cells more than in others, paired by seed."""
    return paired_difference(gains(high, name, against), gains(low, name, against))


def sparsity_growth(measured: Measured) -> Estimate | None:
    """How much more permuting gains at the highest sparsity than at the lowest; None if there is one."""
    low, high = measured.sparsities[0], measured.sparsities[-1]
    return None if low == high else growth(measured.groups(sparsity=high), measured.groups(sparsity=low))


def verdict(estimate: Estimate | None) -> str:
    """Whether a difference that is claimed to be above 0 is."""
    if estimate is None or estimate.count < 2:
        return "not measured"
    low, high = estimate.interval()
    return "yes" if low > 0 else "no, the other way round" if high < 0 else "cannot tell"
