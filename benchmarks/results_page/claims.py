"""What the studies say about each claim of the paper, as tables: Markdown that the page holds by name."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.results_page.measured import Cells, Measured, growth, sparsity_growth, verdict
from rebasin_lt.report.kit.methods import label_of
from rebasin_lt.report.kit.statistics import Estimate, paired_difference, sparsity_text
from rebasin_lt.report.kit.tables import Cell, Column, Table
from rebasin_lt.report.study.accuracy import spread_of
from rebasin_lt.report.study.barriers import study_barriers_table
from rebasin_lt.report.study.diversity import study_diversity_table
from rebasin_lt.report.study.overlap import study_overlap_table
from rebasin_lt.report.study.paired import closure, difference, with_interval
from rebasin_lt.report.study.published import Published, published
from rebasin_lt.report.study.runs import Group, over_rewinds

Studies = Mapping[str, Measured]
Line = Mapping[str, Any]
MAIN = ("lth", "permuted", "naive")
CONTROLS = (
    "lth",
    "b_imp",
    "permuted",
    "b_magnitude",
    "naive",
    "random_permutation",
    "degree_preserving",
    "shuffled",
    "erk",
)
_PAPER_CELLS = [("resnet20", 1), ("resnet20", 4), ("vgg11", 1)]
PAPER_REWIND = "25ep"


def tables(studies: Studies) -> dict[str, Table]:
    """Every table of the page by name."""
    digits, conv4 = studies["digits"], studies["conv4"]
    matching = studies["digits_matching"]
    return {
        "studies": studies_table(studies),
        "paper": paper_table(),
        "digits": comparison(digits.cells(), _caption(digits)),
        "conv4": comparison(conv4.cells(), _caption(conv4)),
        "growth": growth_table(digits),
        "widths": width_table(widths(studies)),
        "barriers": study_barriers_table(barrier_records(studies["digits_width"], digits)),
        "conv4 barriers": study_barriers_table(barrier_records(conv4, matchers=("permuted", "permuted_paper"))),
        "diversity": study_diversity_table(
            studies["digits_diversity"].outcome.diversity, studies["digits_diversity"].setting
        ),
        "paper diversity": paper_diversity_table(),
        **{f"controls {sparsity:g}": controls_table(digits, sparsity) for sparsity in digits.sparsities},
        **{f"conv4 controls {sparsity:g}": controls_table(conv4, sparsity) for sparsity in conv4.sparsities},
        "overlap": study_overlap_table(digits.outcome.matches),
        "paper when": paper_when_table(),
        "when": matchers_table(matching, _WHEN, "matched to B"),
        "images": matchers_table(matching, _IMAGES, "matched on"),
        "preset": preset_table(digits),
        "conv4 preset": preset_table(conv4),
        "headline": headline_table(studies),
    }


def widths(studies: Studies) -> dict[float, Cells]:
    """The same cells at every width on digits: those of the studies by width and of all methods."""
    by_width, digits = studies["digits_width"], studies["digits"]
    places = set(next(iter(by_width.runs.values())))
    same = {place: group for place, group in digits.cells().items() if place in places}
    return dict(sorted({**by_width.runs, 1.0: same}.items()))


def barrier_records(*studies: Measured, matchers: Sequence[str] = ("permuted",)) -> list[Line]:
    """Lines between A and B on test images: as they are, and with the statistics corrected as the paper names it."""
    return [
        line
        for measured in studies
        for line in measured.outcome.barriers
        if line["split"] == "test" and line["correction"] in _CORRECTIONS and line["matcher"] in matchers
    ]


def barrier_fall(measured: Measured, correction: str) -> Estimate | None:
    """By how many nats the loss barrier falls when A is matched to B, paired by seed."""
    found: dict[str, dict[int, float]] = {"before": {}, "after": {}}
    for line in barrier_records(measured):
        if line["correction"] == correction:
            found[line["when"]][line["seed"]] = line["loss_barrier"]
    return paired_difference(found["before"], found["after"])


def studies_table(studies: Studies) -> Table:
    """What was run: network, data, grid, cost, and the command."""
    rows: list[list[Cell]] = []
    for measured in studies.values():
        recipe = measured.outcome.settings["recipe"]
        stages = measured.outcome.stages
        rows.append([
            f"`{measured.command}`",
            f"{recipe['network']['arch']}, {recipe['data']['name']}",
            ", ".join(f"{width:g}" for width in measured.outcome.settings["widths"]),
            measured.seeds,
            ", ".join(map(sparsity_text, measured.sparsities)),
            ", ".join(measured.rewinds),
            f"{recipe['dense_epochs']} / {recipe['epochs_per_round']} / {recipe['sparse_epochs']}",
            len(stages),
            f"{sum(stage['images'] or 0 for stage in stages):,}",
        ])
    titles = "widths|seeds|sparsities|rewind points|epochs dense / per round / sparse|stages|training images"
    columns = [Column("command", align="left"), Column("network, data", align="left"), *map(Column, titles.split("|"))]
    return Table(columns, rows)


def comparison(cells: Cells, caption: str, methods: Sequence[str] = MAIN) -> Table:
    """A row per sparsity and rewind point: accuracies, permuted minus naive with its interval, and gap closure."""
    columns = [Column("sparsity · rewind", align="left")]
    columns += [Column(label_of(name), spread="std") for name in methods]
    columns += [Column("permuted − naive"), Column("gap closure")]
    rows = [
        [
            str(place),
            *(_spread([group], name) for name in methods),
            with_interval(difference([group], "permuted", "naive")),
            closure([group], "permuted"),
        ]
        for place, group in cells.items()
    ]
    return Table(columns, rows, caption)


def headline_table(studies: Studies) -> Table:
    """The sparsest cells of each network, as `comparison` has them: what a mask is worth on it."""
    rows, columns = [], []
    for name, title in NETWORKS.items():
        if name in studies:
            measured = studies[name]
            sparsest = {
                place: group
                for place, group in measured.cells().items()
                if place.sparsity == measured.sparsities[-1] and set(_HEADLINE) - {"permuted_paper"} <= set(group)
            }
            table = comparison(sparsest, "", _HEADLINE)
            columns = table.columns
            rows += [[f"{title} · {row[0]}", measured.seeds, *row[1:]] for row in table.rows]
    columns = [Column("network · sparsity · rewind", align="left"), Column("pairs"), *columns[1:]]
    caption = (
        "Accuracies in %, mean ± sample standard deviation over pairs; differences paired, with 95 % interval; gap "
        "closure ± standard error"
    )
    return Table(columns, rows, caption)


def growth_table(measured: Measured) -> Table:
    """How much more permuting gains at the last sparsity and rewind point than at the first."""
    low, *_, high = map(sparsity_text, measured.sparsities)
    rows: list[list[Cell]] = [[f"from sparsity {low} to {high}", *_judged(sparsity_growth(measured))]]
    for low, high in itertools.pairwise(measured.setting.rewinds):
        more = growth(measured.groups(rewind=high), measured.groups(rewind=low))
        rows.append([f"from rewind point {low} to {high}", *_judged(more)])
    columns = [Column("permuted − naive grows", align="left"), Column("by (points)"), Column("does it?", align="left")]
    return Table(columns, rows, "Difference of differences, paired by seed, means over all other settings")


def paper_table() -> Table:
    """What the paper has at one rewind point: permuted minus naive, and gap closure, by sparsity."""
    rows: list[list[Cell]] = []
    for arch, width in _PAPER_CELLS:
        for sparsity in (0.8, 0.9, 0.95, 0.97):
            lth, permuted, naive = (_published(arch, width, name, sparsity) for name in MAIN)
            if lth is None or permuted is None or naive is None:
                continue
            gain, gap = permuted.value - naive.value, lth.value - naive.value
            rows.append([
                f"{_ARCHS[arch]}×{width}",
                sparsity_text(sparsity),
                *(100 * number.value for number in (lth, permuted, naive)),
                100 * gain,
                gain / gap,
                naive.source,
            ])
    columns = [Column("network", align="left"), Column("sparsity"), *(Column(label_of(name)) for name in MAIN)]
    columns += [Column("permuted − naive", signed=True), Column("gap closure"), Column("in", align="left")]
    return Table(
        columns, rows, f"The paper, CIFAR-10, k = {PAPER_REWIND.removesuffix('ep')}: published means of three seeds"
    )


def paper_when_table() -> Table:
    """The paper's Table 15 at one sparsity: B matched after some epochs of its training."""
    found = {
        "not at all (naive)": ("naive", None),
        **{f"after {epochs} epochs": ("permuted", epochs) for epochs in (5, 20, 50, 100, 200)},
        "itself (LTH)": ("lth", None),
    }
    rows: list[list[Cell]] = []
    for text, (name, at) in found.items():
        number = published("cifar10", "resnet20", 1, name, 0.9, rewind="20ep", matched_at=at, source="Table 15")
        assert number is not None
        assert number.std is not None
        rows.append([text, Estimate(number.value, number.std, number.n or 0).scaled(100)])
    columns = [Column("matched to B", align="left"), Column("accuracy (%)", spread="std")]
    return Table(columns, rows, "The paper: ResNet20×1, CIFAR-10, sparsity 0.90, k = 20, 200 epochs in all (Table 15)")


def width_table(runs: Mapping[float, Cells]) -> Table:
    """A row per width and sparsity: what separates LTH from permuted and permuted from naive."""
    rows: list[list[Cell]] = [
        [
            f"{width:g}",
            sparsity_text(place.sparsity),
            *(_spread([group], name) for name in MAIN),
            with_interval(difference([group], "lth", "permuted")),
            with_interval(difference([group], "permuted", "naive")),
            closure([group], "permuted"),
        ]
        for place in next(iter(runs.values()))
        for width, cells in runs.items()
        for group in [cells[place]]
    ]
    columns = [Column("width", align="left"), Column("sparsity")]
    columns += [Column(label_of(name), spread="std") for name in MAIN]
    columns += [Column("LTH − permuted"), Column("permuted − naive"), Column("gap closure")]
    seeds = {
        width: max(len(group["permuted"]) for group in cells.values() if "permuted" in group)
        for width, cells in runs.items()
    }
    counts = ", ".join(f"{count} (width {width:g})" for width, count in seeds.items())
    return Table(
        columns,
        rows,
        "Accuracies in %, mean ± sample standard deviation; differences paired by seed, with 95 % interval; gap "
        f"closure ± standard error; seeds: {counts}",
    )


def controls_table(measured: Measured, sparsity: float) -> Table:
    """A row per mask for B: its accuracy, and that minus those of two others; means over rewind points."""
    groups = measured.groups(sparsity=sparsity)
    known = [name for name in CONTROLS if any(name in group for group in groups)]
    rows: list[list[Cell]] = [
        [
            label_of(name),
            _spread(groups, name),
            *(with_interval(difference(groups, name, other)) if name != other else None for other in _AGAINST),
        ]
        for name in known
    ]
    columns = [Column("mask", align="left"), Column("accuracy (%)", spread="std")]
    columns += [Column(f"minus {label_of(other)}") for other in _AGAINST]
    return Table(columns, rows, f"Sparsity {sparsity_text(sparsity)}{_over_rewinds(measured)}")


def matchers_table(measured: Measured, names: Mapping[str, str], head: str) -> Table:
    """A row per way to match and sparsity: accuracy, minus naive, minus matching as we do by default, closure."""
    rows: list[list[Cell]] = [
        [
            text,
            sparsity_text(sparsity),
            _spread(groups, name),
            with_interval(difference(groups, name, "naive")) if name != "naive" else None,
            with_interval(difference(groups, name, "permuted")) if name != "permuted" else None,
            closure(groups, name) if name not in {"naive", "lth"} else None,
        ]
        for sparsity in measured.sparsities
        for groups in [measured.groups(sparsity=sparsity)]
        for name, text in names.items()
    ]
    columns = [Column(head, align="left"), Column("sparsity"), Column("accuracy (%)", spread="std")]
    columns += [Column("minus naive"), Column("minus permuted"), Column("gap closure")]
    return Table(columns, rows, _caption(measured))


def preset_table(measured: Measured) -> Table:
    """A row per sparsity and one for all: our matcher minus the paper's, and what each closes of the gap."""
    rows: list[list[Cell]] = []
    for sparsity in [*measured.sparsities, None]:
        groups = measured.groups(sparsity=sparsity)
        gain = difference(groups, "permuted", "permuted_paper")
        closures = [closure(groups, name) for name in ("permuted", "permuted_paper")]
        rows.append([
            "all" if sparsity is None else sparsity_text(sparsity),
            *(_spread(groups, name) for name in ("permuted", "permuted_paper")),
            *_judged(gain),
            *closures,
        ])
    columns = [
        Column("sparsity", align="left"),
        Column("ours (%)", spread="std"),
        Column("paper's preset (%)", spread="std"),
    ]
    columns += [Column("ours − preset"), Column("better?", align="left")]
    columns += [Column("gap closure, ours"), Column("gap closure, preset")]
    return Table(columns, rows, f"Differences paired by seed with 95 % interval{_over_rewinds(measured)}")


def paper_diversity_table() -> Table:
    """The upper half of the paper's Table 1."""
    rows: list[list[Cell]] = []
    for name in ("dense", "imp", *MAIN):
        found = [
            published("cifar10", "resnet20", 1, name, 0 if name == "dense" else 0.9, metric=metric, source="Table 1")
            for metric in ("top1", "ensemble", "disagreement", "kl", "js")
        ]
        member, ensemble = (number and 100 * number.value for number in found[:2])
        rows.append([
            label_of(name),
            member,
            ensemble,
            *(number and number.value for number in found[2:]),
        ])
    columns = [Column("setting", align="left"), Column("member accuracy (%)"), Column("ensemble accuracy (%)")]
    columns += [Column(title, decimals=3) for title in ("disagreement", "KL (nats)", "JS (nats)")]
    return Table(columns, rows, "The paper: ResNet20×1, CIFAR-10, sparsity 0.90, five members (Table 1)")


def _judged(estimate: Estimate | None) -> list[Cell]:
    return [with_interval(estimate), verdict(estimate)]


def _over_rewinds(measured: Measured) -> str:
    return ", means over rewind points" if len(measured.setting.rewinds) > 1 else ""


def _caption(measured: Measured) -> str:
    return (
        f"Accuracies in %, mean ± sample standard deviation of {measured.seeds} seeds; differences paired by seed, "
        "with 95 % interval; gap closure ± standard error"
    )


def _spread(groups: Sequence[Group], name: str) -> Cell:
    values = over_rewinds(groups, [name])[name].values()
    return spread_of(values).scaled(100) if values else None


def _published(arch: str, width: float, method: str, sparsity: float) -> Published | None:
    return published("cifar10", arch, width, method, sparsity, rewind=PAPER_REWIND)


_WHEN = {
    "naive": "not at all (naive)",
    "permuted_1ep": "after 1 epoch",
    "permuted_2ep": "after 2 epochs",
    "permuted_5ep": "after 5 epochs",
    "permuted_10ep": "after 10 epochs",
    "permuted": "at the end",
    "lth": "itself (LTH)",
}
_IMAGES = {
    "permuted_10_images": "10 images",
    "permuted_30_images": "30 images",
    "permuted_100_images": "100 images",
    "permuted_300_images": "300 images",
    "permuted": "all training images",
}
_HEADLINE = ("lth", "permuted", "permuted_paper", "naive", "b_magnitude")
NETWORKS = {
    "digits": "MLP, digits",
    "conv4": "Conv-4, Fashion-MNIST",
    "resnet20": "ResNet20, CIFAR-10 at 16×16",
    "vgg11": "VGG11, CIFAR-10",
}
"""The studies whose numbers stand beside the claims, where they are measured."""
_ARCHS = {"resnet20": "ResNet20", "vgg11": "VGG11"}
_CORRECTIONS = ("none", "repair", "bn_reset")
_AGAINST = ("naive", "permuted", "b_magnitude")
