"""A table for LaTeX that stays on the page: a wide one has headings of several lines and wrapped texts, or shrinks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

from rebasin_lt.report.kit.escape import latex_text

_PAGE = 345.0  # points: the text of LaTeX's own article at 10 pt, the narrowest single column that is usual
_LETTER, _GAP = 5.0, 12.0  # points of a letter of a table, and between two columns
_LONG = 24  # letters from which a column of text is wrapped in a table that is wider than the page
_BREAK = re.compile(r"(?<=[/:,=])(?=\S)|(?<=[.-])(?=[^\W\d])|(?<=_)(?=\S)")
"""Between which letters a path or a dotted name may break: behind its marks, but not within a number."""
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def latex_table(
    heads: Sequence[Sequence[str]],  # of each column: its heading, in the lines to which a wide table breaks it
    rows: Sequence[Sequence[str]],
    at_right: Sequence[bool],  # for each column: numbers, which stand at its right
    caption: str = "",
) -> str:
    """A `tabular` with rules of the package booktabs, in a `table` with the caption where there is one.

    One that would be wider than the page has headings of several lines and texts wrapped within their columns; where
    that is not enough it shrinks to the width of the line, by the package graphicx. A comment on top names packages.
    """
    lines = [[" ".join(head) for head in heads]]
    columns = [[row[index] for row in rows] for index in range(len(heads))]
    letters = [max(map(len, column), default=0) for column in columns]
    wraps = [0] * len(heads)  # letters to which a column of text is wrapped; 0 for one that is not
    if _width(lines, letters) > _PAGE:
        lines = _stacked(heads)
        wraps = [0 if right else _wrap(column) for right, column in zip(at_right, columns, strict=True)]
    shrinks = _width(lines, [wrap or count for wrap, count in zip(wraps, letters, strict=True)]) > _PAGE
    kinds = [
        f"p{{{wrap / 2:g}em}}" if wrap else "r" if right else "l" for wrap, right in zip(wraps, at_right, strict=True)
    ]
    head, body = ([_row(row, wraps) for row in part] for part in (lines, rows))
    written = [*[_FIT] * shrinks, rf"\begin{{tabular}}{{{''.join(kinds)}}}", r"\toprule", *head, r"\midrule", *body]
    written += [r"\bottomrule", r"\end{tabular}" + "}" * shrinks]
    if caption:
        written = [r"\begin{table}", r"\centering", rf"\caption{{{latex_text(caption)}}}", *written, r"\end{table}"]
    elif shrinks or any(wraps):
        written = [r"\noindent", *written]  # as wide as the line, which the indent of a paragraph would push out
    return "\n".join([f"% \\usepackage{{booktabs{',graphicx' * shrinks}}}", *written]) + "\n"


def _wrap(column: Sequence[str]) -> int:
    """The letters to which a column of text is wrapped, at least those of its longest part; 0 for a short one."""
    if max(map(len, column), default=0) <= _LONG:
        return 0
    return max(_LONG, *(len(part) for cell in column for word in cell.split() for part in _BREAK.split(word)))


def _width(lines: Sequence[Sequence[str]], letters: Sequence[int]) -> float:
    """About how wide a table is set whose columns have so many letters, in points."""
    heads = [max(map(len, head)) for head in zip(*lines, strict=True)]
    return sum(_LETTER * max(pair) + _GAP for pair in zip(heads, letters, strict=True))


def _stacked(heads: Sequence[Sequence[str]]) -> list[list[str]]:
    """The lines of the headings, which end at the same height."""
    upward = zip_longest(*(reversed(head) for head in heads), fillvalue="")
    return [list(line) for line in upward][::-1]


def _row(cells: Sequence[str], wraps: Sequence[int]) -> str:
    texts = [_wrapped(cell) if wrap else latex_text(cell) for cell, wrap in zip(cells, wraps, strict=True)]
    first = "{}" * texts[0].startswith(("[", "*"))  # else an argument of the end of the row before
    return first + " & ".join(texts) + (r" \tabularnewline" if any(wraps) else r" \\")


def _wrapped(cell: str) -> str:
    r"""The text, which may break behind the marks of a path; \raggedright, since its words are long."""
    parts = [latex_text(part) for part in _BREAK.split(" ".join(cell.split()))]
    return r"\raggedright " + r"\allowbreak{}".join(parts) if cell else ""
