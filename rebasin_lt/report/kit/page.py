"""One self-contained HTML file: no network, no scripts, figures inline, light or dark as the reader prefers."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rebasin_lt.report.kit.figures import figure_svg
from rebasin_lt.report.kit.tables import Table
from rebasin_lt.storage.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CSS = """
:root { color-scheme: light dark; --shade: #8c959f66;
  --ink: #1f2328; --muted: #59636e; --line: #d8dee4; --ground: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --muted: #9aa4af; --line: #30363d; --ground: #0d1117; --shade: #8b949eaa; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 16px; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 40px 0 12px; }
h1, h2, p, figcaption { overflow-wrap: anywhere; }
p { max-width: 72ch; margin: 0 0 12px; }
.table { overflow-x: auto; margin: 0 0 16px;  /* a shade at an edge says that there is more beyond it */
  background: linear-gradient(to right, var(--ground) 30%, transparent) left / 40px 100% no-repeat local,
    linear-gradient(to left, var(--ground) 30%, transparent) right / 40px 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / 14px 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / 14px 100% no-repeat scroll; }
nav ul { columns: 2 280px; margin: 0 0 16px; padding: 0 0 0 18px; }
a { color: inherit; text-decoration-color: var(--muted); }
.files { color: var(--muted); font-size: 0.92rem; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
caption { color: var(--muted); text-align: left; padding: 0 0 8px; }
caption span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 40px); }
tbody th { position: sticky; left: 0; background: var(--ground); }
th, td { padding: 6px 14px 6px 0; text-align: left; font-weight: normal; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
.right { text-align: right; padding: 6px 0 6px 14px; }
.right + :not(.right) { padding-left: 28px; }
.prose { white-space: normal; min-width: 20ch; }
thead th { font-weight: 600; vertical-align: bottom; white-space: normal; border-bottom-color: var(--muted); }
.tables { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 0 48px; }
.tables .table { max-width: 100%; }
details { margin: 0 0 12px; }
summary { cursor: pointer; color: var(--muted); padding: 4px 0; }
details .table { margin-top: 4px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 28px 32px;
  margin: 0 0 16px; }
figure { margin: 0; min-width: 0; }
figure:only-child:not(.whole) { max-width: 720px; }
figure svg { display: block; width: 100%; height: auto; }
.whole { grid-column: 1 / -1; }
.wide { display: none; }
@media (min-width: 800px) { .wide { display: block; } .narrow { display: none; } }
figcaption { color: var(--muted); font-size: 0.92rem; max-width: 72ch; margin-top: 4px; }
"""


@dataclass(frozen=True)
class Picture:
    """A figure with its caption (shown) and its description (what a reader who cannot see it should know).

    `name` is that of its file, without a suffix, where the report is written as several files; `wide`, the same figure
    as a page shows it that has room for twice its width.
    """

    figure: Figure
    caption: str
    description: str
    name: str = ""
    wide: Figure | None = None

    @cached_property
    def svg(self) -> str:
        """The figure as SVG text, drawn once."""
        return figure_svg(self.figure)

    @cached_property
    def wide_svg(self) -> str:
        """The wide figure as SVG text; that of the only one where there is no other."""
        return self.svg if self.wide is None else figure_svg(self.wide)


@dataclass(frozen=True)
class Folded:
    """A long table, of which a page shows the caption until the reader opens it."""

    table: Table


PagePart = str | Table | Folded | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in order: paragraphs (plain text), tables and pictures.

    `files` are names of files beside the page that hold the section's numbers.
    """

    heading: str
    parts: Sequence[PagePart]
    files: Sequence[str] = ()

    @property
    def anchor(self) -> str:
        """What a link to the section names."""
        return re.sub(r"[^a-z0-9]+", "-", self.heading.lower()).strip("-")


_SIDE_BY_SIDE: dict[type, str] = {Picture: "figures", Table: "tables"}


def write_page(path: Path | str, title: str, sections: Sequence[Section]) -> None:
    """Write the page atomically, with its contents after a first section that has no heading.

    All text is escaped; neighbouring pictures, and tables, share rows where they fit.
    """
    numbers = iter(range(1, 1 + sum(isinstance(part, Picture) for section in sections for part in section.parts)))
    blocks = [_section(section, numbers) for section in sections]
    blocks.insert(1 if sections and not sections[0].heading else 0, _contents(sections))
    body = "\n".join(block for block in blocks if block)
    write_text(
        path,
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{html.escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n",
    )


def _contents(sections: Sequence[Section]) -> str:
    """Links to the sections that have a heading; nothing where there are fewer than three."""
    named = [section for section in sections if section.heading]
    links = "\n".join(f'<li><a href="#{one.anchor}">{html.escape(one.heading)}</a></li>' for one in named)
    return f'<nav aria-label="Contents">\n<ul>\n{links}\n</ul>\n</nav>' if len(named) > 2 else ""


def _files(names: Sequence[str]) -> str:
    links = ", ".join(f'<a href="{html.escape(quote(name), quote=True)}">{html.escape(name)}</a>' for name in names)
    return f'\n<p class="files">Numbers: {links}</p>' if names else ""


def _section(section: Section, numbers: Iterator[int]) -> str:
    heading = f'<h2 id="{section.anchor}">{html.escape(section.heading)}</h2>\n' if section.heading else ""
    blocks = []
    for kind, parts in groupby(section.parts, type):
        block = "\n".join(_part(part, numbers) for part in parts)
        blocks.append(f'<div class="{_SIDE_BY_SIDE[kind]}">\n{block}\n</div>' if kind in _SIDE_BY_SIDE else block)
    return f"<section>\n{heading}" + "\n".join(blocks) + f"{_files(section.files)}\n</section>"


def _part(part: PagePart, numbers: Iterator[int]) -> str:
    if isinstance(part, Folded):
        bare = replace(part.table, caption="")
        return f"<details>\n<summary>{html.escape(part.table.caption)}</summary>\n{_part(bare, numbers)}\n</details>"
    if isinstance(part, Table):
        label = html.escape(part.caption or "table", quote=True)
        return f'<div class="table" role="region" tabindex="0" aria-label="{label}">\n{part.to_html()}</div>'
    if isinstance(part, Picture):
        number = next(numbers)
        drawing = _inline(part.svg, f"figure{number}-", part.description)
        if part.wide is not None:
            wide = _inline(part.wide_svg, f"figure{number}w-", part.description)
            drawing = f'<div class="narrow">{drawing}</div>\n<div class="wide">{wide}</div>'
        kind = "" if part.wide is None else ' class="whole"'
        return f"<figure{kind}>\n{drawing}\n<figcaption>{html.escape(part.caption)}</figcaption>\n</figure>"
    return f"<p>{html.escape(part)}</p>"


def _inline(svg: str, prefix: str, description: str) -> str:
    """The <svg> element alone, described, with its ids prefixed: two figures in a page share most of theirs."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg ") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg).replace("url(#", f"url(#{prefix}")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(description, quote=True)}" ', 1).strip()
