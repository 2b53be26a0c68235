"""The sparse runs of a study by place: accuracies by width, sparsity and rewind moment, method and seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rebasin_lt.experiment.metrics import COMPARED, METRICS
from rebasin_lt.report.kit.statistics import group_records, mean, sparsity_text
from rebasin_lt.report.kit.tables import Table, records_table

Group = Mapping[str, Mapping[int, float]]
"""A metric at one place by method and seed; shares are fractions."""


class Place(NamedTuple):
    """Where on the grid, at one width: a target sparsity, a rewind moment, and the values of the study's own axes."""

    sparsity: float
    rewind: str
    axes: str = ""

    def __str__(self) -> str:
        return " · ".join([sparsity_text(self.sparsity), self.rewind, *([self.axes] if self.axes else [])])


Runs = Mapping[float, Mapping[Place, Group]]
"""A metric by width and place."""


def compared_by(records: Iterable[Mapping[str, Any]]) -> str:
    """The metric that methods are compared by: the first that any run has, by the order of the table."""
    records = list(records)
    return next((name for name in METRICS if any(record.get(name) is not None for record in records)), COMPARED)


def group_runs(
    records: Iterable[Mapping[str, Any]], rewinds: Sequence[str] = (), metric: str = COMPARED
) -> dict[float, dict[Place, Group]]:
    """The runs that have `metric`, by ascending width, then sparsity, moment in the order of `rewinds`, and axes.

    Raises InputError for a run that is there twice and for what is no fraction, as `group_records`.
    """
    runs: dict[float, dict[tuple[str, str], list[dict[str, Any]]]] = {}
    for record in records:
        if record.get(metric) is not None:
            ours = {**record, "value": record[metric]}
            runs.setdefault(record["width"], {}).setdefault((record["rewind"], axes_of(record)), []).append(ours)
    result: dict[float, dict[Place, Group]] = {}
    for width in sorted(runs):
        grouped = {at: group_records(own, METRICS[metric].is_share) for at, own in runs[width].items()}
        order = in_order({rewind for rewind, _ in grouped}, rewinds)
        points = sorted(grouped, key=lambda at: order.index(at[0]))  # stable: values of axes keep their order
        places = [Place(sparsity, *at) for at in points for sparsity in grouped[at]]
        places.sort(key=lambda place: place.sparsity)  # stable: rewind moments keep their order
        result[width] = {place: grouped[place.rewind, place.axes][place.sparsity] for place in places}
    return result


def axes_of(record: Mapping[str, Any]) -> str:
    """The values of the study's own axes that a run has, such as "sparse.learning_rate=0.05"; empty without any."""
    return record.get("axes") or ""


def by_axes(records: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The records of each combination of values, in the order of the study."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault(axes_of(record), []).append(record)
    return found


def rows_table(names: Sequence[str], records: Iterable[Mapping[str, Any]], after: Sequence[str] = ()) -> Table:
    """One row per record, for spreadsheets; with a column more, before those of `after`, for the values of the study's
    own axes where it has any."""
    records = list(records)
    return records_table([*names, *(["axes"] if any(map(axes_of, records)) else []), *after], records)


def in_order(moments: Iterable[str], known: Sequence[str] = ()) -> list[str]:
    """Rewind moments in the order of `known`, then others: the initialisation, steps, epochs."""
    places = {moment: index for index, moment in enumerate(known)}
    return sorted(set(moments), key=lambda moment: (places.get(moment, len(places)), *_natural(moment)))


def over_rewinds(groups: Iterable[Group], methods: Sequence[str]) -> dict[str, dict[int, float]]:
    """Each method's accuracy by seed, averaged over the rewind moments at which that seed has all of `methods`."""
    values: dict[str, dict[int, list[float]]] = {name: {} for name in methods}
    for group in groups:
        for seed in set.intersection(*(set(group.get(name, {})) for name in methods)):
            for name in methods:
                values[name].setdefault(seed, []).append(group[name][seed])
    return {name: {seed: mean(seeds[seed]) for seed in sorted(seeds)} for name, seeds in values.items()}


def _natural(moment: str) -> tuple[bool, str, int]:
    number = int("".join(filter(str.isdigit, moment)) or 0)
    return number != 0, "it" if moment.endswith("it") else "~" + moment.lstrip("0123456789"), number
