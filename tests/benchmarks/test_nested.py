"""The benchmark of nested groups: its networks have some, and its table has a row for each pair."""

from __future__ import annotations

import pytest
import torch

import rebasin_lt as rb
from benchmarks.nested import ARMS, SUBJECTS, table


@pytest.mark.parametrize("name", SUBJECTS)
def test_each_network_has_nested_groups(name: str) -> None:
    torch.manual_seed(0)
    example = torch.zeros(2, 32, dtype=torch.int64) if name == "decoder" else torch.randn(2, 1, 8, 8)
    symmetry = rb.trace_symmetry(SUBJECTS[name].build(), example, verify=False)
    assert len(symmetry.within) == 2  # channels of two kinds, or hidden units of two layers


def test_table_has_a_row_for_each_pair() -> None:
    lines = {arm: {"barrier": float(k)} for k, arm in enumerate(ARMS)}
    found = table({"vit": [{"pair": 0, "lines": lines}, {"pair": 1, "lines": lines}]})
    assert [row[:3] for row in found.rows] == [["ViT, digits", 1, 0.0], ["ViT, digits", 2, 0.0]]
    assert len(found.columns) == 2 + len(ARMS)
