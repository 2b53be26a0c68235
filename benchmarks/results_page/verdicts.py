"""The claims one by one: the paper's number, ours for each network, and whether it is as claimed."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.results_page.claims import NETWORKS, PAPER_REWIND, Studies, barrier_fall, widths
from benchmarks.results_page.measured import Measured, growth, sparsity_growth, verdict
from benchmarks.results_page.networks import BY_WIDTH, CONTROLS_OF
from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.report.kit.tables import Cell, Column, Table
from rebasin_lt.report.study.paired import difference, with_interval
from rebasin_lt.report.study.published import published
from rebasin_lt.report.study.runs import Group


def verdicts_table(studies: Studies) -> Table:
    """Claim by claim: what is measured, the paper's number, ours by network, and whether it is above 0.

    Every claim is of a difference: that there is none is nothing that an interval around 0 could show. A cell of other
    pairs than those of its column says how many it has.
    """
    digits = studies["digits"]
    networks = {name: title for name, title in NETWORKS.items() if name in studies}
    rewinds = [rewind for rewind in digits.setting.rewinds if rewind != "0it"]  # where the paper never trains from
    later = growth(digits.groups(rewind=rewinds[-1]), digits.groups(rewind=rewinds[0]))
    rows: list[list[Cell]] = []

    def row(claim: str, figure: str, paper: float | None, cell: Callable[[str], Cell]) -> None:
        rows.append([claim, figure, paper, *map(cell, networks)])

    def each(name: str, against: str) -> Callable[[str], Cell]:
        return lambda network: _against(studies, network, name, against)

    row("1 permuted beats naive", "permuted − naive", _paper_gain(), each("permuted", "naive"))
    row(
        "1 more so the sparser",
        "growth from the lowest to the highest sparsity",
        _paper_gain(sparsity=0.97) - _paper_gain(sparsity=0.8),
        lambda network: _said(sparsity_growth(studies[network])),
    )
    row(
        "1 more so the later the rewind point",
        f"growth from {rewinds[0]} to {rewinds[-1]}",
        _paper_gain() - _paper_gain(rewind="1ep"),
        lambda network: _said(later) if network == "digits" else None,
    )
    row(
        "2 wider networks lose less to LTH",
        "LTH − permuted, narrowest above widest",
        _paper_gain("lth", "permuted") - _paper_gain("lth", "permuted", width=4),
        lambda network: _narrow_above_wide(studies, network, "lth", "permuted"),
    )
    row(
        "2 so with the ticket's signs",
        "LTH + signs − permuted + signs, narrowest above widest",
        None,
        lambda network: _narrow_above_wide(studies, network, "lth+mask", "permuted+mask"),
    )
    row(
        "3 matching lowers the barrier",
        "loss barrier before − after, raw (nats)",
        None,
        lambda network: _fallen(studies[network], "none"),
    )
    row(
        "3 so after BN reset",
        "the same after BN reset (nats)",
        None,
        lambda network: _fallen(studies[network], "bn_reset"),
    )
    row(
        "5 it takes the matched permutation",
        "permuted − random permutation",
        None,
        each("permuted", "random_permutation"),
    )
    row("5 B's own one-shot magnitude is worse", "permuted − B's magnitude", None, each("permuted", "b_magnitude"))
    row("5 B's own IMP mask is better", "B's IMP mask − permuted", None, each("b_imp", "permuted"))
    row("7 our matcher beats the paper's", "permuted − preset", None, each("permuted", "permuted_paper"))
    columns = [Column("claim", align="left"), Column("figure, mean over all cells", align="left")]
    columns.append(Column("the paper, ResNet20 on CIFAR-10", signed=True))
    for name, title in networks.items():
        columns.append(Column(f"{title}, {_seeds(studies[name].seeds)}", align="left"))
    return Table(
        columns,
        rows,
        "The paper's numbers: width 1 at sparsity 0.90 and k = 25; growth from sparsity 0.80 to 0.97, from k = 0 to "
        "25, and width 1 above 4",
    )


def _against(studies: Studies, network: str, name: str, against: str) -> Cell:
    """One method minus another: by the network's study, or by that of its controls."""
    found = difference(studies[network].groups(), name, against)
    controls = CONTROLS_OF.get(network, "")
    if found is not None or controls not in studies:
        return _said(found)
    found = difference(studies[controls].groups(), name, against)
    return None if found is None else f"{_said(found)} ({_seeds(found.count)})"


def _narrow_above_wide(studies: Studies, network: str, name: str, against: str) -> Cell:
    """By how much more one method is above another in the narrowest network than in the widest, paired by seed."""
    by_width = {"digits": _digits_by_width, "resnet20": _resnet20_by_width}.get(network)
    groups = by_width(studies) if by_width else {}
    if len(groups) < 2:
        return None
    narrow, wide = min(groups), max(groups)
    found = growth(groups[narrow], groups[wide], name, against)
    return None if found is None else f"{_said(found)} ({_seeds(found.count)}, width {narrow:g} above {wide:g})"


def _digits_by_width(studies: Studies) -> dict[float, list[Group]]:
    return {width: list(cells.values()) for width, cells in widths(studies).items()}


def _resnet20_by_width(studies: Studies) -> dict[float, list[Group]]:
    measured = [studies[name] for name in BY_WIDTH if name in studies]
    return {width: one.groups(width) for one in measured for width in one.runs}


def _fallen(measured: Measured, correction: str) -> Cell:
    estimate = barrier_fall(measured, correction)
    if estimate is None:
        return None
    value, low, high = (
        Column("", decimals=3, signed=True).text(each) for each in (estimate.value, *estimate.interval())
    )
    return f"{value}{f' [{low}, {high}]' if estimate.count > 1 else ''}: {_judgement(estimate)}"


def _said(estimate: Estimate | None) -> Cell:
    return None if estimate is None else f"{with_interval(estimate)}: {_judgement(estimate)}"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _judgement(estimate: Estimate) -> str:
    return "one pair" if estimate.count < 2 else verdict(estimate)


def _paper_gain(
    name: str = "permuted", against: str = "naive", sparsity: float = 0.9, width: float = 1, rewind: str = PAPER_REWIND
) -> float:
    """The paper's difference of two methods for ResNet20 on CIFAR-10, in points."""
    ours, theirs = (
        published("cifar10", "resnet20", width, method, sparsity, rewind=rewind) for method in (name, against)
    )
    assert ours is not None
    assert theirs is not None
    return 100 * (ours.value - theirs.value)
