"""The tutorial: page and notebook are made from one text, and hold the numbers that its code gives."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.tutorial.__main__ import ROOT
from benchmarks.tutorial.cells import TEXT, cells_of, run

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
NOTEBOOK = json.loads((ROOT / "examples" / "tutorial.ipynb").read_text(encoding="utf-8"))
CELLS = cells_of(TEXT.read_text(encoding="utf-8"))
CODE = [cell.source for cell in CELLS if cell.kind == "code"]


def outputs() -> list[str]:
    """What each cell of the notebook printed."""
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    return ["".join("".join(out.get("text", "")) for out in cell["outputs"]) for cell in code]


def test_page_and_notebook_have_the_code_and_the_words_of_the_text() -> None:
    assert re.findall(r"```python\n(.*?)\n```", PAGE, flags=re.DOTALL) == CODE
    found = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert found == CODE
    for cell in CELLS:
        if cell.kind == "markdown":
            assert cell.source in PAGE
    words = "".join("".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")
    assert [re.search(f"## {one}", words) is not None for one in ("A ticket", "Rewinding", "Symmetry", "π")] == [
        True
    ] * 4
    links = re.findall(r"\]\(([^)#:]+)", words)
    assert links
    assert all((ROOT / "examples" / link).exists() for link in links)


def test_page_and_notebook_print_the_same_and_each_idea_has_a_picture() -> None:
    assert re.findall(r"```text\n(.*?)\n```", PAGE, flags=re.DOTALL) == [text.rstrip() for text in outputs() if text]
    drawn = sum(out["output_type"] == "display_data" for cell in NOTEBOOK["cells"] for out in cell.get("outputs", ()))
    assert drawn == 6
    assert [(ROOT / "docs" / "images" / f"tutorial-{index}.svg").is_file() for index in range(1, 7)] == [True] * 6


@pytest.mark.slow
def test_the_code_gives_the_numbers_that_are_printed(tmp_path, monkeypatch) -> None:
    """Another machine rounds otherwise: within three points, or 15 %; and what the text says of them holds."""
    monkeypatch.chdir(tmp_path)
    cells = cells_of(TEXT.read_text(encoding="utf-8"))
    run(cells)
    for cell, before in zip((cell for cell in cells if cell.kind == "code"), outputs(), strict=True):
        now, then = (list(map(float, re.findall(r"(?<![\w.])\d+\.\d+", text))) for text in (cell.printed, before))
        assert len(now) == len(then)
        assert now == pytest.approx(then, rel=0.15, abs=3)
    last = dict(re.findall(r"(\w+) ([\d.]+) %", cells[-2].printed))
    assert float(last["LTH"]) - 5 < float(last["permuted"])
    assert float(last["naive"]) + 10 < float(last["permuted"])
