"""Experts of Hugging Face's mixtures are found in every way of computing them that can be exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import symmetry_families
from benchmarks.symmetry_families import HUGGING_FACE, TIMM, build, measure, write_tables
from rebasin_lt.errors import SymmetryError
from rebasin_lt.symmetry.trace import trace_symmetry

RESULTS = Path(symmetry_families.__file__).parent / "results" / "symmetry_families.json"
HIDDEN = {"mixtral": 24, "gpt_oss": 24, "qwen2_moe": 16, "qwen3_moe": 16}


@pytest.mark.slow
@pytest.mark.parametrize("network", HIDDEN)
@pytest.mark.parametrize("experts", ["batched_mm", "grouped_mm"])
def test_experts_and_their_hidden_units_are_found(network: str, experts: str) -> None:
    pytest.importorskip("transformers")
    symmetry = trace_symmetry(*build(f"{network}, {experts}"))
    for layer in range(2):
        sizes = {n for group, n in symmetry.groups.items() if f"layers.{layer}.mlp." in group}
        assert {4, HIDDEN[network]} <= sizes
    assert symmetry.unknown == {}
    assert symmetry.coverage > 0.998


@pytest.mark.slow
@pytest.mark.parametrize("network", HIDDEN)
def test_experts_that_are_chosen_one_by_one_are_refused_with_the_line_that_helps(network: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(SymmetryError, match=r"set_experts_implementation\('batched_mm'\)"):
        trace_symmetry(*build(f"{network}, eager"))


@pytest.mark.slow
def test_gpt2_is_found_whole() -> None:
    pytest.importorskip("transformers")
    assert measure("gpt2")["coverage"] > 0.999


def test_results_are_of_networks_in_the_lists_and_on_the_page(tmp_path: Path) -> None:
    models = json.loads(RESULTS.read_text(encoding="utf-8"))["models"]
    assert models.keys() <= {*TIMM, *HUGGING_FACE}
    page = symmetry_families.DOCS / "symmetry.md"
    (tmp_path / "symmetry.md").write_bytes(page.read_bytes())
    write_tables(models, tmp_path)
    assert (tmp_path / "symmetry.md").read_bytes() == page.read_bytes()


def test_networks_without_results_are_left_out_and_refusals_say_why(tmp_path: Path) -> None:
    markers = (
        "<!-- timm table -->\n<!-- end of timm table -->",
        "<!-- hugging face table --><!-- end of hugging face table -->",
    )
    (tmp_path / "symmetry.md").write_text("\n".join(markers))
    write_tables({"gpt2": {"refused": "for a reason"}, "llama": {"failed": "by an error"}}, tmp_path)
    page = (tmp_path / "symmetry.md").read_text()
    assert "| gpt2 | for a reason |" in page
    assert "| llama | failed: by an error |" in page
    assert "bert" not in page
