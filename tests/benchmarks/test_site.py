"""The documentation's site: every page in the order of reading, every public name with an entry, no link to nowhere."""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rebasin_lt as rb
from benchmarks.site import BROUGHT, ROOT, api_pages, exports, with_site_links

NAV = re.findall(r"^ +- ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
PAGES = [path.name for path in (ROOT / "docs").glob("*.md")]
SOURCES = [*BROUGHT, *(f"docs/{name}" for name in PAGES)]


def test_every_page_is_in_the_order_of_reading_once() -> None:
    assert sorted(NAV) == sorted([*PAGES, *BROUGHT.values()])
    assert NAV[0] == "index.md"


def test_every_public_name_has_an_entry_with_an_example() -> None:
    text = "\n".join(api_pages().values())
    named = [name for name in rb.__all__ if name != "__version__"]
    assert set(exports()) == set(named)
    for name in named:
        assert text.count(f"::: {exports()[name]}.{name}\n") == 1
        assert ">>>" in (getattr(rb, name).__doc__ or ""), name


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and the site have it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("source", SOURCES)
def test_every_link_and_anchor_of_a_page_leads_somewhere(source) -> None:
    text = (ROOT / source).read_text(encoding="utf-8")
    with_site_links(text, source)  # raises for a file that is not there
    plain = re.sub(r"```.*?```|`[^`\n]*`(?!\])", "", text, flags=re.DOTALL)
    for link, anchor in re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", plain):
        if "://" not in link:
            path = ROOT / posixpath.normpath(posixpath.join(posixpath.dirname(source), link)) if link else ROOT / source
            assert path.suffix != ".md" or anchor in anchors(path), f"{link}#{anchor}"


def test_links_are_those_of_the_site_and_a_folder_of_the_package_is_no_page() -> None:
    text = (
        "[a](docs/data.md#x) [b](rebasin_lt/models/) ![c](docs/images/examples.svg) `[d](no)` [e](#here) [f](https://x)"
    )
    found = with_site_links(text, "README.md")
    assert found == "[a](data.md#x) b ![c](images/examples.svg) `[d](no)` [e](#here) [f](https://x)"
    assert with_site_links("[r](../README.md#any-network)", "docs/data.md") == "[r](index.md#any-network)"
    with pytest.raises(ValueError, match="README.md links to docs/nothing.md, which is not there"):
        with_site_links("[a](docs/nothing.md)", "README.md")


def test_the_badges_are_true() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    torch = next(each for each in settings["dependencies"] if each.startswith("torch>="))
    true = {
        "python": settings["requires-python"].replace(">=", "≥ "),
        "pytorch": torch.removeprefix("torch").replace(">=", "≥ "),
        "licence": settings["license"],
    }
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, value in true.items():
        assert f">{value}</text>" in (ROOT / "docs" / "images" / f"badge-{name}.svg").read_text(encoding="utf-8")
        assert re.search(rf"!\[[^]]*{re.escape(value)}\]\(docs/images/badge-{name}.svg\)", readme)


@pytest.mark.slow
def test_the_site_is_built_and_a_dead_link_would_fail_it(tmp_path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert built.returncode == 0, built.stderr
    assert {path.name for path in tmp_path.glob("*.html")} >= {Path(name).stem + ".html" for name in NAV}
    for name in exports():
        assert any(f".{name}" in path.read_text(encoding="utf-8") for path in tmp_path.glob("api/*.html")), name


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=lambda path: path.stem)
def test_the_text_of_a_figure_stays_legible_on_a_narrow_screen(path) -> None:
    """The style sheet leaves a figure its own width there, or one that is wide enough for its smallest text."""
    sheet = (ROOT / "docs" / "stylesheets" / "site.css").read_text(encoding="utf-8")
    assert "p > img:only-child { max-width: none; }" in sheet
    text = path.read_text(encoding="utf-8")
    width, unit = re.search(r'<svg[^>]* width="([\d.]+)(pt)?"', text).groups()
    view = re.search(r'viewBox="0 0 ([\d.]+)', text)
    drawn = float(width) * (4 / 3 if unit else 1)
    widened = re.search(rf'img\[src\*="/{path.name}"\] {{ min-width: (\d+)px; }}', sheet)
    shown = max(drawn, float(widened[1])) if widened else drawn
    sizes = [float(size) for size in re.findall(r"font-size[:=] ?\"?([\d.]+)", text)]
    scale = shown / float(view[1]) if view else 1
    assert not sizes or min(sizes) * scale >= 10


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=lambda path: path.stem)
def test_the_text_of_a_figure_is_legible_beside_the_contents(path) -> None:
    """At 1280 pixels a page's text is 690 wide between its two lists of contents, and no figure is wider."""
    text = path.read_text(encoding="utf-8")
    width, unit = re.search(r'<svg[^>]* width="([\d.]+)(pt)?"', text).groups()
    view = re.search(r'viewBox="0 0 ([\d.]+)', text)
    shown = min(690, float(width) * (4 / 3 if unit else 1))
    sizes = [float(size) for size in re.findall(r"font-size[:=] ?\"?([\d.]+)", text)]
    assert not sizes or min(sizes) * shown / float(view[1] if view else width) >= 10
