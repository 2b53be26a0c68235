"""Names stay names in Markdown, spreadsheets, pages and terminals, whatever they hold."""

from __future__ import annotations

import csv
import html
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

import rebasin_lt
from rebasin_lt.errors import BrokenFileError
from rebasin_lt.process.terminal_text import on_terminal
from rebasin_lt.report.kit.escape import csv_text, latex_text, markdown_paragraph, markdown_text, text_of_csv
from rebasin_lt.report.kit.markdown import write_markdown
from rebasin_lt.report.kit.page import Folded, Section, write_page
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.report.study.numbers import read_numbers
from rebasin_lt.report.study.sections import summary, write_study_report

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a | b \\| c",
    "[label](javascript:alert(1))",
    "![](https://example.org/track.png)",
    "`code` ``more``",
    "*_~~$\\frac{1}{2}$~~_*",
    "&lt;script&gt;",
    "two\nlines\r\n\n# heading",
    "\\",
]
NUMBERS = Path(__file__).parents[3] / "docs" / "results" / "digits"


def shown(markdown: str) -> str:
    """The text that CommonMark shows for one that has no markup, by its rules of escapes and entities."""
    assert not re.search(r"(?<!\\)(\\\\)*[`*_\[\]|~$<>]", markdown), markdown
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown))


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_the_text_itself(text) -> None:
    assert shown(markdown_text(text)) == " ".join(text.split())
    assert shown(markdown_paragraph(text)) == " ".join(text.split())


@pytest.mark.parametrize("text", ["# a", "- a", "+ a", "= a", "1. a", "2) a", "---", "===", "#", "> a", "10.5 a"])
def test_a_paragraph_begins_no_block(text) -> None:
    escaped = markdown_paragraph(text)
    assert not re.match(r"[#>+=-]|\d+[.)]", escaped)
    assert shown(escaped) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_every_part_of_a_report_is_escaped(text, tmp_path) -> None:
    table = Table([Column(text, "left"), Column("b")], [[text, text]], text)
    write_markdown(tmp_path / "report.md", text, [Section(text, [text, table, Folded(table)])])
    written = (tmp_path / "report.md").read_text(encoding="utf-8")
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert len(rows) == 6
    for line in rows[0], rows[2]:
        cells = line.removeprefix("| ").removesuffix(" |").split(" | ")
        assert shown(cells[0]) == " ".join(text.split())
    rest = [line for line in written.splitlines() if line and line not in rows]
    assert [shown(line.lstrip("# ") if index < 2 else line) for index, line in enumerate(rest)] == [
        " ".join(text.split())
    ] * 5
    write_page(tmp_path / "report.html", text, [Section(text, [text, table, Folded(table)])])
    assert not re.search(r"<script|<img", (tmp_path / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd|x", "@SUM(A1)", "\t=1", "'=1", "''=1", "-1+2", "--1"])
def test_a_spreadsheet_computes_no_cell_and_the_text_comes_back(text) -> None:
    table = Table([Column(text, "left"), Column("value")], [[text, -0.5], [text, 7]])
    rows = list(csv.reader(io.StringIO(table.to_csv(), newline="")))
    assert all(cell.startswith("'") for cell in (rows[0][0], rows[1][0], rows[2][0]))
    assert [row[1] for row in rows] == ["value", "-0.5", "7"]
    assert text_of_csv(rows[1][0]) == text


def test_a_break_of_lines_begins_no_row() -> None:
    text = Table([Column("a")], [["x\r=1"], ["x\n=1"]]).to_csv()
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["a"], ["x =1"], ["x\n=1"]]


PLAIN = ["-0.5", "+1e-3", "0.90", ".5", "-7", "permuted", "it's", "'quoted'", "a=b", "10ep", ""]


@pytest.mark.parametrize("text", PLAIN)
def test_numbers_and_plain_names_stay_as_they_are(text) -> None:
    assert csv_text(text) == text
    assert text_of_csv(text) == text


def test_a_study_with_hostile_names_is_reported_and_read_again(tmp_path) -> None:
    name, title = "=<script>boo", "\x1b]0;owned\x07<script>\u202e=1"
    outcome = read_numbers(NUMBERS)
    settings = {**outcome.settings, "matchers": {name: {}, **outcome.settings["matchers"]}, "title": title}
    for run in (*outcome.sparse, *outcome.matches, *outcome.barriers):
        key = "method" if "method" in run else "matcher"
        run[key] = name if run[key] == "permuted" else run[key]
    outcome = replace(outcome, title=title, settings=settings)
    paths = write_study_report(outcome, tmp_path / "first")
    for path in paths:
        assert path.suffix in {".csv", ".json"} or "<script" not in path.read_text(encoding="utf-8"), path
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                cells = [cell for row in csv.reader(file) for cell in row]
            computed = [cell for cell in cells if re.match(r"[=+\-@\t\r]", cell)]
            assert all(re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell) for cell in computed), path
    assert read_numbers(tmp_path / "first").sparse == outcome.sparse
    again = write_study_report(read_numbers(tmp_path / "first"), tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    rows = (tmp_path / "first" / "accuracy.csv").read_text(encoding="utf-8")
    (tmp_path / "first" / "accuracy.csv").write_text(rows.replace("'=<script>boo", "\x1b[2Jboo"), encoding="utf-8")
    with pytest.raises(BrokenFileError, match=r"accuracy.csv does not hold what a report writes: '.x1b\[2Jboo' is no"):
        read_numbers(tmp_path / "first")
    printed = on_terminal(summary(outcome))
    assert "\x1b" in summary(outcome)
    assert all(character.isprintable() or character == "\n" for character in printed)


def test_latex_sets_text_as_it_is_and_signs_that_its_fonts_lack() -> None:
    assert latex_text("a_b & 50 % of $x^2$ {#1} ~\\") == (
        r"a\_b \& 50 \% of \$x\textasciicircum{}2\$ \{\#1\} \textasciitilde{}\textbackslash{}"
    )
    assert latex_text("34.2 †") == r"34.2 $\dagger$"
    assert latex_text("94.5 ± 0.3, −1.0, –, π, <b>") == r"94.5 $\pm$ 0.3, $-$1.0, --, $\pi$, $<$b$>$"


def test_latex_has_every_sign_that_reports_are_written_with() -> None:
    """Letters with accents are set by pdflatex as they are; of other signs beyond ASCII it refuses most."""
    package = Path(rebasin_lt.__file__).parent
    files = [*(package / "report").rglob("*.py"), package / "settings" / "options.py"]
    signs = set("".join(path.read_text(encoding="utf-8") for path in files))
    unset = {sign for sign in latex_text("".join(sorted(signs))) if ord(sign) > 127}
    assert {sign for sign in unset if not sign.isalpha()} == set()


def test_latex_has_the_signs_that_people_name_runs_by() -> None:
    """A Greek letter is a letter to Python, and to pdflatex an error that drops it."""
    assert latex_text("λ = 10⁻³, β₁ = 0.9, Δ ≈ ∞") == (
        r"$\lambda$ = 10$^-$$^3$, $\beta$$_1$ = 0.9, $\Delta$ $\approx$ $\infty$"
    )
    assert not [
        sign for sign in latex_text("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻₀₁₂₃₄₅₆₇₈₉") if ord(sign) > 127
    ]
