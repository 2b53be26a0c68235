"""One table in four renderings, and the table of the experiment."""

from __future__ import annotations

import csv
import io
import math
from html.parser import HTMLParser

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.report.kit.tables import Column, Table

TABLE = Table(
    [
        Column("method", "left"),
        Column("epochs"),
        Column("accuracy of the network", decimals=1),
        Column("gain", signed=True),
    ],
    [
        ["LTH", 200, Estimate(94.53, 0.25, 3), 0.5],
        ["naive | <b>", 5, Estimate(8.0, 12.04, 3), -0.001],
        ["one seed", 5, Estimate(50.0, math.nan, 1), -3.0],
        ["unknown", None, None, None],
    ],
    "Accuracy in %",
)


def test_text_is_aligned_under_wrapped_headings() -> None:
    assert TABLE.to_text() == (
        "Accuracy in %\n"
        "                     accuracy of\n"
        "method       epochs  the network   gain\n"
        "───────────────────────────────────────\n"
        "LTH             200  94.5 ±  0.2  +0.50\n"
        "naive | <b>       5   8.0 ± 12.0  +0.00\n"
        "one seed          5  50.0         −3.00\n"
        "unknown           –     –             –\n"
    )


def test_text_lines_share_their_columns() -> None:
    lines = TABLE.to_text().splitlines()[4:]
    assert len({line.index("±") for line in lines if "±" in line}) == 1
    assert all(len(line) == len(lines[0]) for line in lines)


def test_markdown_escapes_the_separator() -> None:
    lines = TABLE.to_markdown().splitlines()
    assert lines[:2] == ["Accuracy in %", ""]
    assert lines[3] == "| :--- | ---: | ---: | ---: |"
    assert lines[5].startswith("| naive \\| &lt;b&gt; | 5 | 8.0 ± 12.0 |")
    assert all(line.replace("\\|", "").count("|") == 5 for line in lines[2:])


def test_csv_keeps_full_precision_and_splits_estimates() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.to_csv())))
    assert float(rows[0]["accuracy of the network"]) == 94.53
    assert float(rows[0]["accuracy of the network s.e."]) == 0.25
    assert rows[2]["accuracy of the network s.e."] == ""
    assert rows[2]["accuracy of the network n"] == "1"
    assert rows[3] == {name: "unknown" if name == "method" else "" for name in rows[3]}


def test_latex_is_a_booktabs_table_with_every_row() -> None:
    package, *lines = TABLE.to_latex().splitlines()
    assert package == r"% \usepackage{booktabs}"
    assert lines[:5] == [
        *[r"\begin{table}", r"\centering", r"\caption{Accuracy in \%}", r"\begin{tabular}{lrrr}", r"\toprule"]
    ]
    assert lines[5:8] == [
        r"method & epochs & accuracy of the network & gain \\",
        r"\midrule",
        r"LTH & 200 & 94.5 $\pm$ 0.2 & +0.50 \\",
    ]
    assert lines[-4:] == [r"unknown & -- & -- & -- \\", r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    assert Table([Column("a")], [[1]]).to_latex().splitlines()[1] == r"\begin{tabular}{r}"
    bracketed = Table([Column("a", "left")], [["x"], ["[0.5, 0.9]"], ["*"]]).to_latex().splitlines()
    assert bracketed[5:8] == [r"x \\", r"{}[0.5, 0.9] \\", r"{}* \\"]  # no argument of the line before


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_is_semantic_and_escaped() -> None:
    parsed = Tags(TABLE.to_html())
    scopes = [attributes.get("scope") for tag, attributes in parsed.found if tag == "th"]
    assert scopes == ["col"] * 4 + ["row"] * 4
    assert "b" not in {tag for tag, _ in parsed.found}
    assert {"naive | <b>", "94.5 ± 0.2", "Accuracy in %"} <= set(parsed.text)


def test_rows_of_another_length_are_rejected() -> None:
    with pytest.raises(InputError, match="row 1 has 1 cells, expected 2"):
        Table([Column("a"), Column("b")], [[1, 2], [1]])


def test_an_empty_table_renders() -> None:
    empty = Table([Column("sparsity"), Column("LTH")], [])
    assert empty.to_text() == "sparsity  LTH\n─────────────\n"
    assert empty.to_csv() == "sparsity,LTH\n"
    assert "<tbody>" in empty.to_html()
