"""The sections of a page as files for a paper: a `.tex` for each table, a `.pdf` for each figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rebasin_lt.report.kit.figures import save_figure
from rebasin_lt.report.kit.page import Folded, Picture, Section
from rebasin_lt.report.kit.tables import Table
from rebasin_lt.storage.files import write_text


def write_latex(folder: Path, sections: Sequence[Section]) -> list[Path]:
    """Every table as `SECTION-N.tex`, for booktabs, and graphicx where one is too wide; returns the paths."""
    written = []
    for section in sections:
        tables = [part.table if isinstance(part, Folded) else part for part in section.parts]
        for index, table in enumerate((one for one in tables if isinstance(one, Table)), 1):
            written.append(folder / f"{section.anchor or 'summary'}-{index}.tex")
            write_text(written[-1], table.to_latex())
    return written


def write_pdfs(folder: Path, sections: Sequence[Section]) -> list[Path]:
    """Every figure as `NAME.pdf`, light; returns the paths."""
    written = []
    for picture in (part for section in sections for part in section.parts if isinstance(part, Picture)):
        written.append(folder / f"{picture.name}.pdf")
        save_figure(picture.figure, written[-1])
    return written


PAPER_FORMATS: Mapping[str, Callable[[Path, Sequence[Section]], list[Path]]] = {
    "latex": write_latex,
    "pdf": write_pdfs,
}
"""What a report writes beside page and Markdown where it is asked for, by name."""
