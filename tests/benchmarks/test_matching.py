"""The matching benchmark runs at toy size and says all that its page needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import matching


@pytest.mark.filterwarnings("ignore:matching .* units")
def test_main_writes_figures_and_fills_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- cost table -->\nold\n<!-- end of cost table -->\nafter\n")
    sizes = ["--widths", "1", "--images", "8", "--batch", "4", "--repeats", "1"]
    matching.main([*sizes, "--out", str(tmp_path), "--page", str(page)])
    record = json.loads((tmp_path / "matching.json").read_text())["networks"]["resnet20x1"]
    assert record["images"] == 8
    assert record["equal"]["groups_on_live_units"] == 12
    assert sum(record["shares"].values()) == pytest.approx(1)
    assert record["ratios"].keys() == matching.RATIOS.keys()
    assert record["ratios"]["reference / default"][0] > 1
    filled = page.read_text()
    assert "reference / default" in filled
    assert "old" not in filled
    assert filled.startswith("before\n")
    assert (tmp_path / "matching.md").read_text().splitlines()[0] in filled
