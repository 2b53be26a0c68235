"""The paper's networks on the results page: one network at several widths, side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.results_page.claims import studies_table
from benchmarks.results_page.ensembles import ENSEMBLES, ensembles_figures, ensembles_text
from benchmarks.results_page.measured import Measured
from benchmarks.results_page.networks import BY_WIDTH, NETWORKS, by_width_table, networks_text
from rebasin_lt.settings.config_files import shipped
from rebasin_lt.study.outcome import StudyOutcome

RESULTS = Path(__file__).parents[2] / "docs" / "results"
RESNET20 = Measured.read(RESULTS / "resnet20")
LISTS = ("dense", "pruned", "sparse", "matches", "barriers")


def narrowed(outcome: StudyOutcome, loss: float) -> StudyOutcome:
    """The same at half the width, where permuted has lost some points more, and nothing at 2 epochs but at .95."""
    lists = {name: [{**row, "width": 0.5} for row in getattr(outcome, name)] for name in LISTS}
    lists["sparse"] = [
        {**run, "top1": run["top1"] - loss * (run["method"] == "permuted")}
        for run in lists["sparse"]
        if (run["sparsity"], run["rewind"]) == (0.95, "2ep")
    ]
    return replace(outcome, settings={**outcome.settings, "widths": [0.5]}, **lists)


def test_every_network_is_a_shipped_study() -> None:
    assert {f"results/{name}.yaml" for name in (*NETWORKS, *BY_WIDTH)} <= set(shipped())


def test_widths_stand_side_by_side_where_they_have_the_same_cells() -> None:
    half = Measured("resnet20_half", narrowed(RESNET20.outcome, 0.02))
    table = by_width_table([half, RESNET20])
    narrow, usual = table.rows
    assert [row[:2] for row in table.rows] == [["0.5", "0.95 · 2ep"], ["1", "0.95 · 2ep"]]
    assert narrow[4:] != usual[4:]
    assert narrow[6:] == usual[6:]  # the same barriers, signs and pairs
    (place,) = half.cells()
    for row, measured in ((narrow, half), (usual, RESNET20)):
        runs = measured.cells()[place]
        gaps = [100 * (runs["lth"][seed] - runs["permuted"][seed]) for seed in runs["lth"]]
        assert str(row[2]).split(" ")[0] == f"{sum(gaps) / len(gaps):+.2f}".replace("-", "−")


def test_one_width_alone_is_no_comparison() -> None:
    assert "by width" not in networks_text({"resnet20": RESNET20})
    both = {"resnet20": RESNET20, "resnet20_half": Measured("resnet20_half", narrowed(RESNET20.outcome, 0.02))}
    assert "### ResNet20 by width" in networks_text(both)


def test_rewind_moments_without_a_cell_are_not_said_to_be_run() -> None:
    assert RESNET20.outcome.settings["recipe"]["rewinds"] == ["0it", "2ep"]  # the first for the init memory alone
    table = studies_table({"resnet20": RESNET20})
    names = [column.title for column in table.columns]
    assert table.rows[0][names.index("rewind points")] == "2ep"


def test_ensembles_of_a_network_have_their_layout_price_and_figure() -> None:
    assert ENSEMBLES in {name.removeprefix("results/").removesuffix(".yaml") for name in shipped()}
    assert "not measured" in ensembles_text({})
    assert ensembles_figures({}) == {}
    early = {ENSEMBLES: Measured(ENSEMBLES, replace(ensembles(), diversity=[]))}  # no member is trained yet
    assert "not measured" in ensembles_text(early)
    assert ensembles_figures(early) == {}
    measured = Measured(ENSEMBLES, ensembles())
    text = ensembles_text({ENSEMBLES: measured})
    assert "| 1 · 0.95 · 2ep | LTH | 5 | 74.00 ± 1.00 | 76.00 | 0.100 | 0.200 | 0.050 |" in text
    assert "| 1 · 0.95 · 2ep | permuted | 74.00 ± 1.00 | 0.100 | 76.00 | 20 | 0 | 6 | 26 |" in text
    assert set(ensembles_figures({ENSEMBLES: measured})) == {"ensembles"}
    assert measured.sparsities == [0.95]


def test_what_the_page_says_of_ensembles_is_what_they_have() -> None:
    found = Measured.read(RESULTS / ENSEMBLES).outcome.diversity
    together = {row["setting"]: row["ensemble"] for row in found}
    order = ["dense", "imp", "early_2ep+mask", "lth", "permuted", "naive"]
    assert sorted(together, key=lambda name: -together[name]) == order
    of = {row["setting"]: row for row in found}
    assert of["lth"]["accuracy"] > together["permuted"]
    assert of["early_2ep+mask"]["accuracy"] > of["lth"]["accuracy"]
    apart = {name: row["disagreement"] - of["lth"]["disagreement"] for name, row in of.items()}
    assert 0 < apart["early_2ep+mask"] < 0.2 * apart["permuted"]


def ensembles() -> StudyOutcome:
    """Five members of two settings, without any cell of the grid."""
    found = {"accuracy": 0.74, "accuracy_std": 0.01, "ensemble": 0.76, "disagreement": 0.1, "kl": 0.2, "js": 0.05}
    place = {"width": 1.0, "sparsity": 0.95, "rewind": "2ep", "members": 5}
    rows = [{**place, "setting": name, **found} for name in ("lth", "permuted")]
    settings = {**RESNET20.outcome.settings, "methods": [], "diversity": {"methods": ["lth", "permuted"]}}
    return replace(RESNET20.outcome, settings=settings, sparse=[], diversity=rows)
