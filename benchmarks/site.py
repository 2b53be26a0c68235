"""What `make docs` adds to docs/: the README as the first page, a page of the API per room, links that lead out of it.

mkdocs calls `on_config`, `on_files` and `on_page_markdown`; the rest needs nothing but the standard library.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BROUGHT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "examples/README.md": "examples-commands.md",
}
"""Pages that lie outside docs/, and their names in the site."""

AREAS = {
    "Networks and symmetry": ("models", "symmetry", "batches"),
    "Masks and pruning": ("pruning",),
    "Matching": ("matching",),
    "Connectivity": ("connectivity",),
    "Diversity": ("diversity",),
    "Training": ("lit",),
    "Feeding": ("feeding",),
    "Data": ("lit.data",),
    "Studies and reports": ("experiment", "study", "report"),
    "Errors": ("errors",),
}
"""Headings of the API reference, and the rooms whose names stand under each; the longest that fits is taken."""

_PARTS = re.compile(
    r"(?P<code>```.*?```|`(?:[^`\n]|\n(?!\n))*`)"
    r"|!\[(?P<alt>[^\]]*)\]\((?P<image>[^)\s]+)\)"
    r"|\[(?P<label>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<link>[^)\s#]*)(?P<anchor>\#[^)\s]*)?\)",
    re.DOTALL,
)
"""Code, which stays; pictures; links, whose label may hold code."""


def exports() -> dict[str, str]:
    """Public names, and the module that each comes from, out of the package's stub."""
    stub = (ROOT / "rebasin_lt" / "__init__.pyi").read_text(encoding="utf-8")
    found = {}
    for node in ast.parse(stub).body:
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name: f"rebasin_lt.{node.module}" for alias in node.names}
    return found


def area_of(module: str) -> str:
    """The heading under which the names of a module stand."""
    inside = module.removeprefix("rebasin_lt.") + "."
    rooms = [(room, area) for area, rooms in AREAS.items() for room in rooms if inside.startswith(f"{room}.")]
    return max(rooms, key=lambda each: len(each[0]))[1]


def api_pages() -> dict[str, str]:
    """Markdown by file name: a page per area, an entry per public name, in the order of the alphabet."""
    pages: dict[str, list[str]] = {}
    for name, module in sorted(exports().items(), key=lambda item: item[0].lower()):
        pages.setdefault(area_of(module), []).append(f"::: {module}.{name}")
    return {
        f"api/{area.lower().replace(' ', '-')}.md": f"# {area}\n\nAs `rebasin_lt.NAME`, or `rb.NAME` after "
        f"`import rebasin_lt as rb`.\n\n" + "\n\n".join(pages[area]) + "\n"
        for area in AREAS
    }


def with_site_links(text: str, source: str) -> str:
    """The Markdown of the file `source` with every link to another file of the repository as the site has it.

    A link to what is no page, such as a folder of the package, becomes its text. Raises ValueError for one to nothing.
    """
    folder = posixpath.dirname(source)
    here = posixpath.dirname(_in_site(source) or "")

    def target(link: str) -> str:
        path = posixpath.normpath(posixpath.join(folder, link))
        if not (ROOT / path).exists():
            raise ValueError(f"{source} links to {link}, which is not there")
        return path

    def written(found: re.Match[str]) -> str:
        if found["code"] or _is_outside(found["link"] or found["image"] or ""):
            return found[0]
        if found["image"]:
            return f"![{found['alt']}]({posixpath.relpath(target(found['image']).removeprefix('docs/'), here or '.')})"
        page = _in_site(target(found["link"]))
        address = "" if page is None else posixpath.relpath(page, here or ".")
        return found["label"] if page is None else f"[{found['label']}]({address}{found['anchor'] or ''})"

    return _PARTS.sub(written, text)


def _is_outside(link: str) -> bool:
    """True for what is no file of the repository: the page itself, and the web."""
    return not link or "://" in link or link.startswith("mailto:")


def _in_site(path: str) -> str | None:
    """The page of the site that a file of the repository is; None for one that is none."""
    if path in BROUGHT:
        return BROUGHT[path]
    inside = path.removeprefix("docs/")
    return inside if inside != path and inside.endswith(".md") else None


def _source_of(page: str) -> str:
    return next((source for source, name in BROUGHT.items() if name == page), f"docs/{page}")


def on_config(config: Any) -> Any:
    """Put the pages of the API into the order of reading."""
    entries: Iterator[Any] = ((entry, index) for index, entry in enumerate(config["nav"]))
    for entry, index in entries:
        if isinstance(entry, dict) and "API" in entry:
            config["nav"][index] = {"API": sorted(api_pages(), key=list(api_pages()).index)}
    return config


def on_files(files: Any, config: Any) -> Any:
    """Bring the pages that lie outside docs/, and make those of the API."""
    from mkdocs.structure.files import File

    made = {name: (ROOT / source).read_text(encoding="utf-8") for source, name in BROUGHT.items()} | api_pages()
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Every link as the site has it; those of the API pages are mkdocstrings'."""
    name = page.file.src_uri
    return markdown if name.startswith("api/") else with_site_links(markdown, _source_of(name))
