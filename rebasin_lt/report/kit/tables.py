"""One table, rendered for terminals, Markdown, LaTeX, spreadsheets and web pages from the same numbers."""

from __future__ import annotations

import csv
import html
import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rebasin_lt.errors import InputError
from rebasin_lt.report.kit.escape import csv_text, markdown_paragraph, markdown_text
from rebasin_lt.report.kit.latex import latex_table
from rebasin_lt.report.kit.statistics import Estimate

Cell = str | int | float | Estimate | None
MISSING = "–"
_LINE = 48
"""Letters from which a page breaks the texts of a column into lines."""


@dataclass(frozen=True)
class Column:
    """How one column is headed and written: alignment, decimals of floats, whether a plus sign is shown.

    `spread` says in CSV what the errors of its estimates are: standard errors unless it says otherwise.
    """

    title: str
    align: Literal["left", "right"] = "right"
    decimals: int = 2
    signed: bool = False
    spread: str = "s.e."

    def parts(self, cell: Cell) -> tuple[str, str]:
        """The cell's text, and the text of its standard error ("" where it has none)."""
        if cell is None:
            return MISSING, ""
        if isinstance(cell, Estimate):
            error = "" if math.isnan(cell.error) else self._number(cell.error, signed=False)
            return self._number(cell.value, self.signed), error
        return (self._number(cell, self.signed) if isinstance(cell, float) else str(cell)), ""

    def text(self, cell: Cell) -> str:
        """The cell as people read it: `94.5 ± 0.3`."""
        return " ± ".join(part for part in self.parts(cell) if part)

    def _number(self, value: float, signed: bool) -> str:
        return format(value, f"{'+' if signed else '-'}z.{self.decimals}f").replace("-", "−")


def texts(*titles: str) -> list[Column]:
    """Columns of text, which begins at the left."""
    return [Column(title, align="left") for title in titles]


def numbers(*titles: str, decimals: int = 2, spread: str = "s.e.") -> list[Column]:
    """Columns of numbers that are written alike."""
    return [Column(title, decimals=decimals, spread=spread) for title in titles]


@dataclass(frozen=True)
class Table:
    """Columns, rows of cells and a caption. A cell is text, a number, an `Estimate`, or None where nothing is known."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(f"rows: row {index} has {len(row)} cells, expected {len(self.columns)}")

    def to_text(self) -> str:
        """Aligned lines for a terminal; long headings wrap, and the ± signs of a column stand under each other."""
        bodies = [self._aligned(index) for index in range(len(self.columns))]
        heads = [_wrapped(column.title, cells) for column, cells in zip(self.columns, bodies, strict=True)]
        height = max(map(len, heads), default=0)
        stacks = [[""] * (height - len(head)) + head + cells for head, cells in zip(heads, bodies, strict=True)]
        padded = [_padded(stack, column.align) for stack, column in zip(stacks, self.columns, strict=True)]
        lines = ["  ".join(line) for line in zip(*padded, strict=True)]
        lines.insert(height, "─" * max(map(len, lines), default=0))
        return "\n".join(line.rstrip() for line in ([self.caption] if self.caption else []) + lines) + "\n"

    def to_markdown(self, markup: bool = False) -> str:
        """A GitHub-flavoured table, with the caption as a paragraph above it.

        All text is escaped; of `markup` that the caller wrote as Markdown, the separator of columns alone.
        """
        escaped = _without_separator if markup else markdown_text
        rules = ["---:" if column.align == "right" else ":---" for column in self.columns]
        head, *rows = ([*map(escaped, row)] for row in [[column.title for column in self.columns], *self._texts()])
        lines = ["| " + " | ".join(row) + " |" for row in [head, rules, *rows]]
        caption = self.caption if markup else markdown_paragraph(self.caption)
        return "\n".join([caption, ""] * bool(caption) + lines) + "\n"

    def to_csv(self) -> str:
        """Full-precision numbers; a column of estimates becomes three: the value, its standard error and the count.

        Text that a spreadsheet would compute is led by an apostrophe (`csv_text`).
        """
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        wide = [any(isinstance(row[index], Estimate) for row in self.rows) for index in range(len(self.columns))]
        writer.writerow(
            name for column, triple in zip(self.columns, wide, strict=True) for name in _csv_titles(column, triple)
        )
        for row in self.rows:
            writer.writerow(
                value for cell, triple in zip(row, wide, strict=True) for value in _csv_values(cell, triple)
            )
        return file.getvalue()

    def to_latex(self) -> str:
        """A `tabular` with rules of the package booktabs, in a `table` with the caption; no wider than the page."""
        rows = self._texts()
        cells = [[row[index] for row in rows] for index in range(len(self.columns))]
        heads = [_wrapped(column.title, own) for column, own in zip(self.columns, cells, strict=True)]
        return latex_table(heads, rows, [column.align == "right" for column in self.columns], self.caption)

    def to_html(self) -> str:
        """A semantic table: caption, scoped headings, the first cell of a row as its heading; all text escaped."""
        rows = self._texts()
        kinds = [
            column.align if column.align == "right" else "prose" if any(len(row[index]) > _LINE for row in rows) else ""
            for index, column in enumerate(self.columns)
        ]
        titles = [column.title for column in self.columns]
        head = "".join(_tag("th", title, kind, 'scope="col"') for title, kind in zip(titles, kinds, strict=True))
        body = "\n".join(f"<tr>{_html_row(row, kinds)}</tr>" for row in rows)
        caption = f"<caption><span>{html.escape(self.caption)}</span></caption>\n" if self.caption else ""
        return f"<table>\n{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"

    def _texts(self) -> list[list[str]]:
        return [[column.text(cell) for column, cell in zip(self.columns, row, strict=True)] for row in self.rows]

    def _aligned(self, index: int) -> list[str]:
        parts = [self.columns[index].parts(row[index]) for row in self.rows]
        width = max((len(error) for _, error in parts), default=0)
        blank = " " * (width + 3) if width and self.columns[index].align == "right" else ""
        return [f"{value} ± {error:>{width}}" if error else value + blank for value, error in parts]


def records_table(names: Sequence[str], records: Iterable[Mapping[str, Any]]) -> Table:
    """One row per record, for spreadsheets: its values of these names as they are, None for what it lacks."""
    return Table([Column(name) for name in names], [[record.get(name) for name in names] for record in records])


def _wrapped(title: str, cells: Sequence[str]) -> list[str]:
    """The heading broken at spaces to the width of its column, which is at least that of its longest word."""
    width = max(map(len, [*cells, *title.split()]), default=1)
    return textwrap.wrap(title, max(width, 1), break_long_words=False, break_on_hyphens=False) or [""]


def _without_separator(markup: str) -> str:
    return markup.replace("|", "\\|")


def _padded(lines: Sequence[str], align: str) -> list[str]:
    width = max(map(len, lines))
    return [line.rjust(width) if align == "right" else line.ljust(width) for line in lines]


def _html_row(texts: Sequence[str], kinds: Sequence[str]) -> str:
    """The cells of a row, the first as its heading, each of a kind that the page's style knows, or of none."""
    tags = [("th", 'scope="row"')] + [("td", "")] * (len(texts) - 1)
    return "".join(_tag(tag, text, kind, scope) for (tag, scope), text, kind in zip(tags, texts, kinds, strict=True))


def _tag(tag: str, text: str, kind: str, attributes: str) -> str:
    kind = f' class="{kind}"' if kind else ""
    return f"<{tag}{' ' * bool(attributes)}{attributes}{kind}>{html.escape(text)}</{tag}>"


def _csv_titles(column: Column, triple: bool) -> list[str]:
    title = csv_text(column.title)
    return [title, f"{title} {column.spread}", f"{title} n"] if triple else [title]


def _csv_values(cell: Cell, triple: bool) -> list[Cell]:
    if isinstance(cell, Estimate):
        return [cell.value, "" if math.isnan(cell.error) else cell.error, cell.count]
    cell = csv_text(cell) if isinstance(cell, str) else cell
    return [cell, None, None] if triple else [cell]
