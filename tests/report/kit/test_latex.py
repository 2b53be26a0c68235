"""Tables for LaTeX stay on the page, whatever stands in them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.report.kit.tables import Table, numbers, texts

PATH = "runs/imp_of_a/imp/sparsity-0.95.mask.safetensors"
INTERVAL = "+0.3288 [−0.6579, +1.3155]"
WORDS = "better than chance, and the mask has left the initialisation: worth training under"
WIDE = {
    "headings": Table(numbers(*(f"loss barrier before number {index} (nats)" for index in range(6))), [[0.5] * 6], "a"),
    "numbers": Table(numbers(*"abcdef", decimals=4), [[Estimate(0.5438, 0.0056, 3)] * 6]),
    "intervals": Table(texts(*"abcd"), [[INTERVAL] * 4, [None] * 4], "Differences"),
    "paths": Table(texts("trainer.callbacks.MaskGuard.mask", *"abc"), [["mask", *[PATH] * 3]], "Settings that differ"),
    "words": Table([*texts("what it means"), *numbers(*"abcd")], [[WORDS, 1, 2, 3, 4], ["[no]", 1, 2, 3, 4]]),
    "one long name": Table(texts("name", "value"), [["Configuration" * 9, "[yes]"]]),
    "everything": Table(texts(*"abcdefgh"), [[PATH, WORDS, INTERVAL, "_", "", "*", "$", "100 %"]] * 2, "a caption"),
}


@pytest.mark.parametrize("name", WIDE)
def test_a_table_that_is_wider_than_the_page_wraps_or_shrinks(name: str) -> None:
    text = WIDE[name].to_latex()
    assert r"\resizebox" in text or "p{" in text or text.count(r" \\") > len(WIDE[name].rows) + 1
    assert (",graphicx}" in text.splitlines()[0]) == (r"\resizebox" in text)
    assert text.count("{") == text.count("}")


def test_headings_break_as_in_a_terminal() -> None:
    above, *_ = re.findall(r"\\toprule\n(.*?)\\midrule", WIDE["headings"].to_latex(), re.DOTALL)
    assert len(above.splitlines()) > 2
    assert above.replace("\n", " ").replace("&", " ").split().count("barrier") == 6


def test_a_path_breaks_behind_its_marks_and_nowhere_within_a_number() -> None:
    text = WIDE["paths"].to_latex()
    assert r"imp\_\allowbreak{}of\_\allowbreak{}a/\allowbreak{}imp/" in text
    assert r"sparsity-0.95.\allowbreak{}mask" in text


def test_a_narrow_table_needs_booktabs_alone() -> None:
    text = Table([*texts("run"), *numbers("test/acc")], [["LTH", 0.5]], "Metrics").to_latex()
    assert text.splitlines()[0] == r"% \usepackage{booktabs}"
    assert "resizebox" not in text
    assert "p{" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="sets the tables with pdflatex, which is not installed")
def test_latex_sets_them_within_the_page(tmp_path: Path) -> None:
    tables = "\n\\clearpage\n".join(table.to_latex() for table in WIDE.values())
    packages = r"\documentclass{article}\usepackage{booktabs}\usepackage{graphicx}"
    (tmp_path / "all.tex").write_text(f"{packages}\\parindent=0pt\\begin{{document}}\n{tables}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout[-2000:]
    assert "Overfull \\hbox" not in said.stdout


def test_without_a_caption_one_as_wide_as_the_line_is_no_indented_paragraph() -> None:
    """LaTeX would push it out of the page by the indent."""
    wide = Table(numbers(*"abcdef", decimals=4), [[Estimate(0.5438, 0.0056, 3)] * 6])
    assert wide.to_latex().splitlines()[1] == r"\noindent"
    assert "noindent" not in Table(numbers("a"), [[0.5]]).to_latex()
    assert "noindent" not in Table(wide.columns, wide.rows, "a").to_latex()
