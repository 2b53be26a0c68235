"""docs/results.md: every number in it and in the README comes from the numbers that lie in docs/results."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.results_page import collect as collecting
from benchmarks.results_page import page
from benchmarks.results_page.claims import barrier_fall, width_table
from benchmarks.results_page.collect import (
    collect_numbers,
    measured_studies,
    results_studies,
    whole_pairs,
    whole_studies,
)
from benchmarks.results_page.measured import Measured, gains, growth, verdict
from benchmarks.results_page.values import value
from rebasin_lt.errors import InputError
from rebasin_lt.report.kit.figures import save_figure
from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.report.study.numbers import write_numbers
from rebasin_lt.settings.config_files import shipped
from rebasin_lt.study.outcome import StudyOutcome

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAMES = r"ResNet\d+(×[\d½]+)?|CIFAR-10|VGG\d+|claim \d|Conv-4|8×8|Table \d+|k = 0|out 0|of 95 %|^#+ \d"
"""What holds a digit and is no measurement."""
CODE = r"`[^`]*`|!?\[[^\]]*\]\([^)]*\)|\{\{.*?\}\}"


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    """The figures of the page by the names of their files, once it is written."""
    return {}


@pytest.fixture(scope="module")
def written(tmp_path_factory, drawn) -> Path:
    """A copy of the documentation, with the page made anew."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(DOCS / "results", folder / "docs" / "results")
    shutil.copy(ROOT / "README.md", folder)
    with pytest.MonkeyPatch.context() as patched:
        keep = lambda figure, path: save_figure(drawn.setdefault(path.name, figure), path)  # noqa: E731
        patched.setattr(page, "save_figure", keep)
        page.write_page(folder / "docs")
    return folder


@pytest.mark.parametrize("name", ["docs/results.md", "README.md"])
def test_the_committed_page_is_what_its_numbers_give(written, name) -> None:
    assert (written / name).read_text(encoding="utf-8") == (ROOT / name).read_text(encoding="utf-8")


def test_every_figure_of_the_page_is_made_and_committed(written) -> None:
    shown = set(re.findall(r"images/(results-\S+\.svg)", (DOCS / "results.md").read_text(encoding="utf-8")))
    made = {path.name for path in (written / "docs" / "images").iterdir()}
    assert shown == made
    assert all((DOCS / "images" / name).is_file() for name in shown)


def test_no_heading_or_key_leaves_its_figure(written, drawn) -> None:
    assert drawn.keys() == {path.name for path in (written / "docs" / "images").iterdir()}
    for name, figure in drawn.items():
        renderer = FigureCanvasAgg(figure).get_renderer()  # at the resolution of the figure, not of a file's
        width = figure.get_size_inches()[0] * figure.dpi
        texts = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
        for text in texts:
            box = text.get_window_extent(renderer)
            assert (box.x0 >= 0, box.x1 <= width) == (True, True), f"{name}: {text.get_text()}"


@pytest.mark.parametrize("name", ["page.md", "readme.md"])
def test_no_number_is_written_by_hand(name) -> None:
    text = (Path(page.__file__).parent / name).read_text(encoding="utf-8")
    bare = re.sub(NAMES, "", re.sub(CODE, "", text), flags=re.MULTILINE)
    assert not re.findall(r".*\d.*", bare)


def test_every_study_of_the_page_is_complete() -> None:
    assert {path.name for path in (DOCS / "results").iterdir() if path.is_dir()} <= set(results_studies())
    for name in measured_studies(DOCS / "results"):
        measured = Measured.read(DOCS / "results" / name)
        assert all(stage["done"] for stage in measured.outcome.stages)
        assert_whole(measured)
        assert f"\n#   rebasin-lt study --config results/{name}.yaml\n" in (
            ROOT / "configs" / "results" / f"{name}.yaml"
        ).read_text(encoding="utf-8")


def test_every_shipped_study_is_measured_or_listed_with_its_cost() -> None:
    rows = (DOCS / "results" / "not_run.csv").read_text(encoding="utf-8").splitlines()[1:]
    listed = {row.split(",")[0].removeprefix("rebasin-lt study --config ") for row in rows}
    measured = {*collecting.RAN, *(f"results/{name}.yaml" for name in whole_studies(DOCS / "results"))}
    assert listed == {name for name in shipped() if name.startswith(("studies/", "results/"))} - measured


def assert_whole(measured: Measured) -> None:
    """Every cell has every method with every seed: means over rewind points are then over the same ones.

    Of ensembles alone, its cells are those of the first member, and every setting has a member for each seed.
    """
    settings = measured.outcome.settings
    seeds, methods = set(settings["seeds"]), set(settings["methods"])
    if not methods:
        rows = measured.outcome.diversity
        assert {row["setting"] for row in rows} == set(settings["diversity"]["methods"]), measured.name
        assert {row["members"] for row in rows} == {len(seeds)}, measured.name
        seeds, methods = {settings["seeds"][0]}, set(settings["diversity"]["methods"]) - {"dense", "imp"}
    for width, cells in measured.runs.items():
        for place, group in cells.items():
            assert set(group) == methods, (measured.name, width, place)
            assert all(set(own) == seeds for own in group.values()), (measured.name, width, place)


MEMBERS = {"accuracy": 0.95, "accuracy_std": 0.01, "disagreement": 0.1, "kl": 0.1, "js": 0.02}


def outcome(*done: bool) -> StudyOutcome:
    """Two seeds, two sparsities: permuting gains 1 point at the lower, 4 and 6 at the higher; which seeds are done."""
    gained = {0.9: (0.01, 0.01), 0.95: (0.04, 0.06)}
    sparse = [
        {"width": 1.0, "seed": seed, "method": method, "sparsity": sparsity, "rewind": "1ep", "top1": 0.8 + more}
        for sparsity, by_seed in gained.items()
        for seed, gain in enumerate(by_seed)
        for method, more in (("naive", 0.01 * seed), ("permuted", 0.01 * seed + gain), ("lth", 0.01 * seed + 0.1))
    ]
    dense = [{"width": 1.0, "seed": seed, "role": "a", "top1": 0.95, "top5": None} for seed in (0, 1)]
    stages = [
        {"kind": "dense", "path": f"width=1/seed={seed}/dense_a", "epochs": 1, "images": 10, "done": is_done}
        for seed, is_done in enumerate(done or (True, True))
    ]
    recipe = {"data": {"name": "digits"}, "network": {"arch": "mlp"}, "rewinds": ["1ep"]}
    ensemble = {"width": 1.0, "sparsity": 0.9, "rewind": "1ep", "setting": "lth", "members": 2, "ensemble": 0.97}
    settings = {"seeds": [0, 1], "recipe": recipe}
    return StudyOutcome("two seeds", settings, stages, dense, sparse=sparse, diversity=[ensemble | MEMBERS])


MEASURED = Measured("two", outcome())


def test_gains_and_their_growth_are_paired_by_seed() -> None:
    low, high = (MEASURED.groups(sparsity=sparsity) for sparsity in (0.9, 0.95))
    assert gains(high, "permuted", "naive") == pytest.approx({0: 0.04, 1: 0.06})
    more = growth(high, low)
    assert more is not None
    assert (more.value, more.error, more.count) == pytest.approx((0.04, 0.01, 2))


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(1.0, 0.1, 10), "yes"),
        (Estimate(-1.0, 0.1, 10), "no, the other way round"),
        (Estimate(1.0, 0.5, 10), "cannot tell"),  # 2 standard errors: t is 2.26 with ten seeds
        (Estimate(-1.0, 0.5, 10), "cannot tell"),
        (Estimate(1.0, float("nan"), 1), "not measured"),
        (None, "not measured"),
    ],
)
def test_a_verdict_is_said_where_the_interval_leaves_out_0(estimate, text) -> None:
    assert verdict(estimate) == text


def test_the_barrier_falls_by_what_its_test_images_say_before_and_after() -> None:
    lines = [
        {
            "width": 1.0, "seed": seed, "matcher": matcher, "split": split, "correction": correction, "when": when,
            "loss_barrier": barrier + seed,
        }
        for seed in (0, 1)
        for split, matcher, correction, when, barrier in [
            ("test", "permuted", "none", "before", 2.0 + seed),
            ("test", "permuted", "none", "after", 0.5),
            ("test", "permuted", "repair", "after", 9.0),
            ("train", "permuted", "none", "after", 9.0),
            ("test", "permuted_paper", "none", "after", 9.0),
        ]
    ]  # fmt: skip
    fall = barrier_fall(Measured("lines", StudyOutcome("lines", {}, barriers=lines)), "none")
    assert fall is not None
    assert (fall.value, fall.error, fall.count) == pytest.approx((2.0, 0.5, 2))


def test_a_table_by_width_says_how_many_seeds_each_width_has() -> None:
    cells = MEASURED.cells()
    fewer = {place: {name: {0: own[0]} for name, own in group.items()} for place, group in cells.items()}
    assert width_table({0.5: fewer, 1.0: cells}).caption.endswith("; seeds: 1 (width 0.5), 2 (width 1)")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("accuracy two permuted all 1ep", "83.5"),
        ("closure two permuted 0.9", "0.10 ± 0.00"),
        ("accuracy two naive 0.9", "80.5"),
        ("ensemble two lth 0.9", "97.0"),
        ("dense two", "95.0"),
        ("dense two:1", "95.0"),
    ],
)
def test_a_sentence_names_a_number(words, text) -> None:
    assert value({"two": MEASURED}, words) == text


def test_an_interval_stands_beside_a_gain() -> None:
    assert value({"two": MEASURED}, "gain two permuted naive 0.95") == "+5.00 [−7.71, +17.71]"


@pytest.mark.parametrize(
    "words",
    ["mean two permuted", "gain three permuted naive 0.9", "gain two permuted naive 0.8", "ensemble two lth 0.8"],
)
def test_a_sentence_that_names_none_is_refused(words) -> None:
    with pytest.raises(ValueError, match="names no number|has no cell|has 0 ensembles"):
        value({"two": MEASURED}, words)


def test_numbers_of_a_study_without_a_whole_pair_are_not_taken(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(collecting, "results_studies", lambda: ["two", "absent"])
    monkeypatch.setattr(collecting, "shipped_study", lambda _: {"recipe": {"data": {"root": "data/two"}}})
    (tmp_path / "runs" / "two").mkdir(parents=True)
    for done in (False, True):
        monkeypatch.setattr(collecting, "read_outcome", lambda _, done=done: outcome(done, done))
        if not done:
            with pytest.raises(
                InputError, match=r"two lacks 2 stages, the first width=1/seed=0/dense_a: finish a pair"
            ):
                list(collect_numbers(tmp_path / "runs", tmp_path / "out"))
            assert not (tmp_path / "out").exists()
        else:
            assert list(collect_numbers(tmp_path / "runs", tmp_path / "out")) == ["two"]
    write_numbers(outcome(), tmp_path / "again")
    assert (tmp_path / "again" / "accuracy.csv").read_bytes() == (tmp_path / "out/two/accuracy.csv").read_bytes()


def test_only_pairs_that_are_whole_are_taken_and_all_of_those() -> None:
    whole = whole_pairs(outcome(True, False))
    assert whole.settings["seeds"] == [0]
    assert {run["seed"] for run in [*whole.dense, *whole.sparse]} == {0}
    assert [stage["path"] for stage in whole.stages] == ["width=1/seed=0/dense_a"]
    assert len(whole.sparse) == len(outcome().sparse) / 2
    assert whole_pairs(outcome()) == outcome()


def test_numbers_do_not_say_where_images_lay_on_a_machine(tmp_path, monkeypatch) -> None:
    found = outcome()
    found.settings["recipe"]["data"]["root"] = "/home/someone/images"
    monkeypatch.setattr(collecting, "results_studies", lambda: ["two"])
    monkeypatch.setattr(collecting, "shipped_study", lambda _: {"recipe": {"data": {"root": "data/two"}}})
    monkeypatch.setattr(collecting, "read_outcome", lambda _: found)
    (tmp_path / "runs" / "two").mkdir(parents=True)
    list(collect_numbers(tmp_path / "runs", tmp_path / "out"))
    assert json.loads((tmp_path / "out/two/study.json").read_text())["settings"]["recipe"]["data"]["root"] == "data/two"


@pytest.mark.parametrize("folder", ["docs/results", "benchmarks/results"])
def test_no_committed_result_names_a_path_of_a_machine(folder) -> None:
    for path in sorted((ROOT / folder).rglob("*.json")):
        # where a Debian package puts its files is the same everywhere
        assert not re.findall(r'"/(?!usr/share/)[^"]*/[^"]*"', path.read_text(encoding="utf-8")), path
