"""The tutorial as cells: its text cut at its Python blocks, run in order, and written as page and notebook."""

from __future__ import annotations

import base64
import io
import json
import re
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEXT = Path(__file__).with_name("text.md")


@dataclass
class Cell:
    """A block of Markdown, or of Python with what it printed and the figures that it drew, as SVG and PNG."""

    kind: str
    source: str
    printed: str = ""
    figures: list[tuple[str, bytes]] = field(default_factory=list)


def cells_of(text: str) -> list[Cell]:
    """The cells of a page, in order."""
    parts = re.split(r"```python\n(.*?)```\n", text, flags=re.DOTALL)
    kinds = [("markdown", "code")[index % 2] for index in range(len(parts))]
    return [Cell(kind, part.strip("\n")) for kind, part in zip(kinds, parts, strict=True) if part.strip()]


def run(cells: list[Cell]) -> None:
    """Execute the code, each cell after the one before, in the current folder; keeps what it prints and draws."""
    import matplotlib.pyplot as plt

    from rebasin_lt.lit.trainer import quiet
    from rebasin_lt.report.kit.figures import figure_style, figure_svg

    quiet()
    names: dict[str, Any] = {}
    for cell in cells:
        if cell.kind == "code":
            with redirect_stdout(io.StringIO()) as printed, figure_style():
                exec(compile(cell.source, str(TEXT), "exec"), names)
            cell.printed = printed.getvalue()
            for number in plt.get_fignums():
                figure, png = plt.figure(number), io.BytesIO()
                figure.savefig(png, format="png", dpi=110)
                cell.figures.append((figure_svg(figure), png.getvalue()))
            plt.close("all")


def page_of(cells: list[Cell], images: Path) -> str:
    """The page with what came out below each block; figures are written as `tutorial-N.svg` into `images`."""
    parts, number = [], 0
    for cell in cells:
        if cell.kind == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        if cell.printed:
            parts.append(f"```text\n{cell.printed.rstrip()}\n```")
        for svg, _ in cell.figures:
            number += 1
            (images / f"tutorial-{number}.svg").write_text(svg, encoding="utf-8")
            parts.append(f"![{_described(cell.source)}](images/tutorial-{number}.svg)")
    return "\n\n".join(parts) + "\n"


def notebook_of(cells: list[Cell]) -> dict[str, Any]:
    """The same as a notebook of format 4.5, outputs included."""
    found = []
    for index, cell in enumerate(cells):
        source = _from_examples(cell.source) if cell.kind == "markdown" else cell.source
        made: dict[str, Any] = {"id": f"cell-{index}", "cell_type": cell.kind, "metadata": {}, "source": _lines(source)}
        if cell.kind == "code":
            made |= {"execution_count": None, "outputs": _outputs(cell)}
        found.append(made)
    language = {"name": "python", "display_name": "Python 3", "language": "python"}
    return {"cells": found, "metadata": {"kernelspec": language}, "nbformat": 4, "nbformat_minor": 5}


def notebook_text(cells: list[Cell]) -> str:
    """The notebook's file."""
    return json.dumps(notebook_of(cells), indent=1, ensure_ascii=False) + "\n"


def _outputs(cell: Cell) -> list[dict[str, Any]]:
    printed = [{"output_type": "stream", "name": "stdout", "text": _lines(cell.printed)}] if cell.printed else []
    drawn = [
        {"output_type": "display_data", "metadata": {}, "data": {"image/png": base64.b64encode(png).decode()}}
        for _, png in cell.figures
    ]
    return [*printed, *drawn]


def _described(source: str) -> str:
    """What a figure shows, in the words of its titles."""
    return (
        "; ".join(re.findall(r'title="([^"]+)"', source)) or "A, and A with its units shuffled: second layer's weights"
    )


def _from_examples(text: str) -> str:
    """Links of a page in docs/ as they are from examples/."""
    text = re.sub(r"\]\((?!\.\./|https?:)([\w./-]+\.md)", r"](../docs/\1", text)
    return text.replace("](../examples/tutorial.ipynb)", "](tutorial.ipynb)")


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
