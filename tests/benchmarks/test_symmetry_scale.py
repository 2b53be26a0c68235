"""The largest cases: what was measured stands on the page, beside the most that was aimed at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import symmetry_scale
from benchmarks.symmetry_scale import CASES, Case, Step, measure, write_table

RESULTS = Path(symmetry_scale.__file__).parent / "results" / "symmetry_scale.json"


def test_results_are_on_the_page_and_no_larger_than_was_aimed_at(tmp_path: Path) -> None:
    cases = json.loads(RESULTS.read_text(encoding="utf-8"))["cases"]
    assert cases.keys() <= CASES.keys()
    for name, steps in cases.items():
        assert all(steps[step]["seconds"] < most for step, most in CASES[name].seconds.items())
        assert all(steps[step]["peak_memory_gib"] < most for step, most in CASES[name].gib.items())
    page = symmetry_scale.DOCS / "symmetry.md"
    (tmp_path / "symmetry.md").write_bytes(page.read_bytes())
    write_table(cases, tmp_path)
    assert (tmp_path / "symmetry.md").read_bytes() == page.read_bytes()


def test_steps_are_measured_in_turn_and_a_case_that_failed_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def steps() -> Iterator[Step]:
        yield "first", lambda: made.append(1)
        assert made == [1]
        yield "second", lambda: made.append(2)

    monkeypatch.setitem(CASES, "two", Case("Two steps", steps, {"second": 5}, {}))
    measured = measure("two")
    assert made == [1, 2]
    (tmp_path / "symmetry.md").write_text("<!-- scale table -->\n<!-- end of scale table -->")
    write_table({"two": measured, "units": {"failed": "no memory"}}, tmp_path)
    page = (tmp_path / "symmetry.md").read_text()
    assert "| Two steps | first |" in page
    assert "(at most 5)" in page
    assert "failed: no memory" in page
