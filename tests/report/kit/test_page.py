"""The page: one file, no network, all text escaped, figures described."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rebasin_lt.report.kit.figures import barrier_figure
from rebasin_lt.report.kit.page import Folded, Picture, Section, write_page
from rebasin_lt.report.kit.tables import Column, Table

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """The elements of a page in order, checked to be closed in the order they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def picture(caption: str) -> Picture:
    figure = barrier_figure({"raw": ([0, 0.5, 1], [1, 2, 1])})
    figure.axes[0].plot([0.5], [1.5], marker="o")  # markers are drawn by reference
    return Picture(figure, caption, f'Description of "{caption}" & more')


@pytest.fixture
def page_text(tmp_path: Path) -> str:
    table = Table([Column("a <i>"), Column("b")], [["<u>x</u>", 1.0]], 'Caption "quoted"')
    sections = [
        Section("", ["Lead <b>& text</b>"]),
        Section("Results <1>", [table, picture("one"), picture("two"), "Between", picture("three")], ["a & b.csv"]),
    ]
    write_page(tmp_path / "report.html", "Demo </title><script>", sections)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_page_is_well_formed_and_escaped(page_text: str) -> None:
    page = Page(page_text)
    assert page.open == []
    assert not {"script", "b", "u", "i"} & {tag for tag, _ in page.found}
    assert {"Demo </title><script>", "Lead <b>& text</b>", "Results <1>", "<u>x</u>"} <= set(page.text)
    assert [tag for tag, _ in page.found if tag in ("h1", "h2")] == ["h1", "h2"]


def test_page_needs_no_network(page_text: str) -> None:
    page = Page(page_text)
    assert not {"img", "link", "script", "iframe", "image"} & {tag for tag, _ in page.found}
    links = [value for _, attributes in page.found for name, value in attributes.items() if name.endswith("href")]
    assert all(link and (link.startswith("#") or link == "a%20%26%20b.csv") for link in links)
    assert "a%20%26%20b.csv" in links  # a file beside the page
    assert not re.search(r"@import|url\((?!#)", page_text)
    assert "default-src 'none'" in page_text


def test_page_describes_and_captions_every_picture(page_text: str) -> None:
    page = Page(page_text)
    drawings = page.named("svg")
    assert [drawing["role"] for drawing in drawings] == ["img"] * 3
    assert drawings[0]["aria-label"] == 'Description of "one" & more'
    assert len(page.named("figure")) == len(page.named("figcaption")) == 3


def test_page_ids_are_unique_and_references_resolve(page_text: str) -> None:
    ids = Counter(re.findall(r'\bid="([^"]*)"', page_text))
    links, clips = (set(re.findall(pattern, page_text)) for pattern in (r'href="#([^"]*)"', r"url\(#([^)]*)\)"))
    assert links
    assert clips
    assert max(ids.values()) == 1
    assert links | clips <= set(ids)


def test_page_puts_neighbouring_pictures_side_by_side(page_text: str) -> None:
    groups = page_text.split('<div class="figures">')[1:]
    assert [group.count("<figure>") for group in groups] == [2, 1]


def test_page_folds_long_tables_under_their_caption(tmp_path: Path) -> None:
    table = Table([Column("a")], [["x"]], "What <i>it</i> holds")
    write_page(tmp_path / "report.html", "Title", [Section("", [table, table, Folded(table)])])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert text.count("<summary>What &lt;i&gt;it&lt;/i&gt; holds</summary>") == 1
    assert len(page.named("details")) == 1
    assert len(page.named("table")) == 3
    assert text.count('<div class="tables">') == 1


def test_page_lets_tables_scroll_by_themselves(page_text: str) -> None:
    regions = [attributes for attributes in Page(page_text).named("div") if attributes.get("class") == "table"]
    assert regions == [{"class": "table", "role": "region", "tabindex": "0", "aria-label": 'Caption "quoted"'}]


def test_page_is_written_whole_and_repeatably(tmp_path: Path) -> None:
    for name in ("first.html", "second.html"):
        write_page(tmp_path / name, "Title", [Section("Figures", [picture("one")])])
    assert (tmp_path / "first.html").read_bytes() == (tmp_path / "second.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.html", "second.html"]
