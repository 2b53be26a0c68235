"""The report of a study: everything that is there, whole or half, in a page, as Markdown and as CSV."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.judging.chance import is_at_chance
from rebasin_lt.report.study.sections import LONG, summary, write_study_report
from rebasin_lt.study.outcome import StudyOutcome

CSVS = ["accuracy", "summary", "paired", "barriers", "curves", "overlap", "diversity", "prices"]
CSVS += ["frontier", "ledger"]


class Page(HTMLParser):
    """The texts under each heading of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.sections: dict[str, list[str]] = {"": []}
        self.tag = self.heading = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tag = tag

    def handle_data(self, data: str) -> None:
        if self.tag == "h2" and data.strip():
            self.heading = data
            self.sections[data] = []
        elif data.strip() and self.tag != "style":
            self.sections[self.heading].append(data)


@pytest.fixture(scope="module")
def small(make_outcome) -> StudyOutcome:
    return make_outcome(sparsities=(0.97,), rewinds=("0it", "20ep"), seeds=(0, 1))


@pytest.fixture(scope="module")
def report(small, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "report"
    paths = write_study_report(small, folder)
    assert paths[:2] == [folder / "report.html", folder / "report.md"]
    assert sorted(paths) == sorted(folder.iterdir())
    return folder


def test_page_has_every_part(report: Path) -> None:
    sections = Page(report / "report.html").sections
    assert list(sections) == [
        "",
        "Accuracy",
        "Differences between methods, paired by seed",
        "Between the networks",
        "Diversity and ensembles",
        "Accuracy, disagreement and price",
        "Overlap of the masks",
        "What each method is",
        "What was run",
    ]
    opening = " ".join(sections[""])
    assert "At width 4 and sparsity 0.97, training under the permuted mask is" in opening
    assert "the study is complete." in opening
    assert "LTH, published" in sections["Accuracy"]
    assert any("hollow marks: the paper's published means" in text for text in sections["Accuracy"])
    assert "naive: B's rewound weights under A's mask as it is." in sections["What each method is"]
    assert {"recipe.network.arch", '"resnet20"', "[0, 1]"} <= set(sections["What was run"])


def test_markdown_links_every_figure_and_holds_the_pages_texts(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\((.*?\.svg)\)", text)
    assert sorted(linked) == sorted(path.name for path in report.glob("*.svg"))
    assert {"accuracy-width-1.svg", "barriers.svg", "curves-loss.svg"} <= set(linked)
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert headings == list(Page(report / "report.html").sections)[1:]


@pytest.mark.parametrize("name", CSVS)
def test_csv_has_its_rows(report: Path, small: StudyOutcome, name: str) -> None:
    with (report / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert None not in rows[0]
    if name == "accuracy":
        assert len(rows) == len(small.dense) + len(small.pruned) + len(small.sparse)
    if name == "summary":
        assert {row["metric"] for row in rows} == {"top1", "top5"}
        assert {row["published_in"] for row in rows} == {"", "Table 5", "Table 6"}


def test_equal_outcomes_are_equal_bytes(report: Path, small: StudyOutcome, tmp_path: Path) -> None:
    again = replace(small, sparse=[dict(reversed(run.items())) for run in small.sparse])
    write_study_report(again, tmp_path)
    for path in report.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_its_words_hold_for_data_of_any_kind(report: Path) -> None:
    """Tickets, tables and texts have examples, no images."""
    shown = re.sub(r"!\[.*?\]\(.*?\)", "", (report / "report.md").read_text(encoding="utf-8"))
    assert "## Between the networks" in shown
    assert re.findall(r".{0,30}\bimages?\b.{0,30}", shown) == []


def test_more_classes_have_a_top_5_section(make_outcome, tmp_path: Path) -> None:
    outcome = make_outcome(dataset="cifar100", num_classes=100, widths=(1,), sparsities=(0.97,), rewinds=("1ep",))
    write_study_report(replace(outcome, barriers=[]), tmp_path)
    assert "Top-5 accuracy" in Page(tmp_path / "report.html").sections
    assert (tmp_path / "accuracy-top5.svg").exists()


def test_half_a_study_says_so_and_shows_what_there_is(small: StudyOutcome, tmp_path: Path) -> None:
    half = replace(
        small,
        title="Half <b>",
        stages=[{**stage, "done": index % 2 == 0} for index, stage in enumerate(small.stages)],
        sparse=[run for run in small.sparse if run["method"] != "permuted" or run["rewind"] == "20ep"][1:],
        barriers=small.barriers[:1],
        diversity=[],
        matches=[],
    )
    write_study_report(half, tmp_path)
    sections = Page(tmp_path / "report.html").sections
    assert "not complete: what is missing is written as –" in " ".join(sections[""])
    assert "–" in sections["Accuracy"]
    assert any("(n = 1)" in text for text in sections["Accuracy"])
    assert "Diversity and ensembles" not in sections
    assert "Overlap of the masks" not in sections
    assert "&lt;b&gt;" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_one_seed_has_no_spread(make_outcome, tmp_path: Path) -> None:
    one = make_outcome(seeds=(0,), widths=(1,), sparsities=(0.9,), rewinds=("10ep",), dataset="digits")
    write_study_report(replace(one, barriers=[]), tmp_path)
    sections = Page(tmp_path / "report.html").sections
    assert "one seed, so no interval" in " ".join(sections[""])
    assert not any("hollow marks" in text for text in sections["Accuracy"])
    cells = sections["Differences between methods, paired by seed"]
    assert not [text for text in cells if "[" in text or "nan" in text]
    assert "nan" not in (tmp_path / "summary.csv").read_text(encoding="utf-8")


def test_nothing_is_said_to_be_nothing(tmp_path: Path) -> None:
    write_study_report(StudyOutcome("Empty", {}), tmp_path)
    sections = Page(tmp_path / "report.html").sections
    assert sections[""][-1] == "No stage of this study has finished yet (0 of 0 stages)."
    assert list(sections) == [""]
    assert sorted(path.stem for path in tmp_path.glob("*.csv")) == sorted(CSVS)


def test_long_tables_are_folded(make_outcome, tmp_path: Path) -> None:
    long = make_outcome(widths=(1,), seeds=(0, 1), sparsities=[1 - 0.8**level for level in range(1, LONG + 2)])
    write_study_report(
        replace(long, barriers=[], sparse=[run for run in long.sparse if run["rewind"] == "1ep"]), tmp_path
    )
    assert "<summary>Width 1: test accuracy in %" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_summary_is_progress_headline_and_table(small: StudyOutcome) -> None:
    lines = summary(small).splitlines()
    assert lines[0] == "A study that never ran: 36 of 36 stages"
    assert lines[1].startswith("At width 4")
    assert lines[-1].split()[:3] == ["4", "0.97", "permuted"]
    assert "nothing to compare" in summary(StudyOutcome("Empty", {}))


def test_a_page_begins_with_what_was_trained_and_its_contents_and_links_its_numbers(report: Path) -> None:
    text = (report / "report.html").read_text(encoding="utf-8")
    opening = " ".join(Page(report / "report.html").sections[""])
    assert "Trained: resnet20, width 1, 4, on cifar10; epochs: 200 dense; pruned to 0.97; 2 seeds." in opening
    linked = re.findall(r'<a href="#([\w-]+)">', text)
    assert linked == re.findall(r'<h2 id="([\w-]+)">', text)
    files = re.findall(r'<a href="([\w.-]+)">', text)
    assert {"accuracy.csv", "summary.csv", "paired.csv", "ledger.csv"} <= set(files)
    assert all((report / name).is_file() for name in files)
    markdown = (report / "report.md").read_text(encoding="utf-8")
    assert "[accuracy.csv](accuracy.csv)" in markdown


def test_runs_at_chance_are_marked_and_named(small: StudyOutcome, tmp_path: Path) -> None:
    first, *others = small.sparse
    lost = replace(small, sparse=[{**first, "top1": 0.1}, *others])
    write_study_report(lost, tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"† 1 of {len(small.sparse)} sparse networks collapsed to chance (10 %): LTH at 0.97 · 0it, seed 0." in text
    assert len(re.findall(r"\d †</td>", text)) == 1
    assert is_at_chance(0.125, 10)
    assert not is_at_chance(0.126, 10)
    assert not is_at_chance(None, 10)


def test_tables_for_latex_and_figures_as_pdf_are_written_where_they_are_asked_for(
    small: StudyOutcome, tmp_path
) -> None:
    paths = write_study_report(small, tmp_path, ["latex", "pdf"])
    assert sorted(paths) == sorted(tmp_path.iterdir())
    drawn = {path.stem for path in tmp_path.glob("*.svg")}
    assert {path.stem for path in tmp_path.glob("*.pdf")} == drawn
    assert (tmp_path / "accuracy-width-1.pdf").read_bytes().startswith(b"%PDF")
    table = (tmp_path / "accuracy-1.tex").read_text(encoding="utf-8")
    assert "\\toprule" in table
    assert "$\\pm$" in table
    with pytest.raises(InputError, match="--formats is 'latx', which is not known .did you mean latex"):
        write_study_report(small, tmp_path, ["latx"])


def test_text_of_figures_is_legible_on_a_page_of_400_pixels(report: Path) -> None:
    """There a figure has 360 of them, which is a point each: no text is below 10, and on a wide page none is either."""
    for path in report.glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert float(re.search(r'<svg [^>]*width="([\d.]+)pt"', text)[1]) <= 360
        sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", text)]
        assert sizes
        assert min(sizes) >= 10, path.name
    page = (report / "report.html").read_text(encoding="utf-8")
    assert page.count('<div class="wide">') == page.count('<figure class="whole">') == 2  # a width each
    assert float(re.search(r'<div class="wide"><svg [^>]*width="([\d.]+)pt"', page)[1]) == 720
