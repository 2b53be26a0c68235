"""Numbers inside sentences of the page: `{{gain digits permuted naive 0.98}}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.results_page.measured import Measured
from rebasin_lt.report.kit.statistics import mean
from rebasin_lt.report.kit.tables import Column
from rebasin_lt.report.study.paired import closure, difference, with_interval
from rebasin_lt.report.study.runs import Group, over_rewinds

_POINTS, _RATIO = Column("", decimals=1), Column("")
_ALL = "all"


def value(studies: Mapping[str, Measured], words: str) -> str:
    """What a sentence names: a kind of number, a study (`NAME` or `NAME:WIDTH`), methods, a sparsity, a rewind moment.

    - `gain STUDY METHOD AGAINST SPARSITY [REWIND]`: points with the 95 % interval
    - `closure STUDY METHOD SPARSITY [REWIND]`: gap closure ± standard error
    - `accuracy STUDY METHOD SPARSITY [REWIND]`: %, mean over seeds
    - `ensemble STUDY SETTING SPARSITY`: %, of one ensemble
    - `dense STUDY`: %, mean over A and B of all seeds

    A sparsity may be `all`; without a rewind moment, means over all of them. Raises ValueError for other words.
    """
    kind, where, *rest = words.split()
    name, _, width = where.partition(":")
    if kind not in _KINDS or name not in studies:
        raise ValueError(
            f"{{{{{words}}}}} names no number: expected {', '.join(_KINDS)}, and one of {', '.join(studies)}"
        )
    return _KINDS[kind](studies[name], float(width) if width else None, rest)


def _groups(measured: Measured, width: float | None, place: Sequence[str]) -> list[Group]:
    sparsity, *rewind = place
    groups = measured.groups(width, None if sparsity == _ALL else float(sparsity), *rewind)
    if not groups:
        raise ValueError(f"{measured.name} has no cell at width {width or 'of its own'}, {' '.join(place)}")
    return groups


def _gain(measured: Measured, width: float | None, words: Sequence[str]) -> str:
    return str(with_interval(difference(_groups(measured, width, words[2:]), *words[:2])))


def _closure(measured: Measured, width: float | None, words: Sequence[str]) -> str:
    return _RATIO.text(closure(_groups(measured, width, words[1:]), words[0]))


def _accuracy(measured: Measured, width: float | None, words: Sequence[str]) -> str:
    values = over_rewinds(_groups(measured, width, words[1:]), words[:1])[words[0]]
    return _POINTS.text(100 * mean(list(values.values())))


def _ensemble(measured: Measured, width: float | None, words: Sequence[str]) -> str:
    setting, sparsity = words[0], float(words[1])
    found = [one for one in measured.outcome.diversity if (one["setting"], one["sparsity"]) == (setting, sparsity)]
    if len(found) != 1:
        raise ValueError(f"{measured.name} has {len(found)} ensembles {setting} at sparsity {sparsity:g}, expected one")
    return _POINTS.text(100 * found[0]["ensemble"])


def _dense(measured: Measured, width: float | None, words: Sequence[str]) -> str:
    return _POINTS.text(100 * mean(measured.dense(width)))


_KINDS = {
    "gain": _gain,
    "closure": _closure,
    "accuracy": _accuracy,
    "ensemble": _ensemble,
    "dense": _dense,
}
