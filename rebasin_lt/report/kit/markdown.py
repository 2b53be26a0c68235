"""The sections of a page as a Markdown file, with its figures as files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rebasin_lt.report.kit.escape import markdown_paragraph, markdown_text
from rebasin_lt.report.kit.page import Folded, PagePart, Picture, Section
from rebasin_lt.report.kit.tables import Table
from rebasin_lt.storage.files import write_text


def write_markdown(path: Path | str, title: str, sections: Sequence[Section]) -> list[Path]:
    """Write the file, and every picture as `NAME.svg` beside it; returns the paths, the file's own first."""
    path = Path(path)
    pictures = [part for section in sections for part in section.parts if isinstance(part, Picture)]
    figures = [path.parent / f"{picture.name}.svg" for picture in pictures]
    for picture, figure in zip(pictures, figures, strict=True):
        write_text(figure, picture.svg)
    write_text(path, "\n".join(_lines(title, sections)))
    return [path, *figures]


def _lines(title: str, sections: Sequence[Section]) -> Iterable[str]:
    yield f"# {markdown_text(title)}\n"
    for section in sections:
        if section.heading:
            yield f"## {markdown_text(section.heading)}\n"
        yield from map(_part, section.parts)
        if section.files:
            yield f"Numbers: {', '.join(f'[{markdown_text(name)}]({name})' for name in section.files)}\n"


def _part(part: PagePart) -> str:
    if isinstance(part, Picture):
        return f"![{markdown_text(part.description)}]({part.name}.svg)\n\n{markdown_text(part.caption)}\n"
    if isinstance(part, Folded):
        return part.table.to_markdown()
    return part.to_markdown() if isinstance(part, Table) else f"{markdown_paragraph(part)}\n"
