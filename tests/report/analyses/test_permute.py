"""The tables of an alignment hold the numbers that it found."""

from __future__ import annotations

import pytest

from rebasin_lt.report.analyses.permute import barrier_table, groups_table, masks_table

RESULT = {
    "method": "coordinate_descent",
    "num_samples": 0,
    "measure": "cosine of the matched weights",
    "objective": {"conv.weight": 0.25},
    "sizes": {"conv.weight": 12},
}


@pytest.mark.parametrize(
    ("num_samples", "caption"),
    [(0, "Matched by coordinate descent"), (1234, "Matched by activations of 1,234 examples")],
)
def test_groups_have_their_units_and_objective(num_samples, caption) -> None:
    method = "activations" if num_samples else "coordinate_descent"
    table = groups_table({**RESULT, "method": method, "num_samples": num_samples})
    assert table.rows == [["conv.weight", 12, 0.25]]
    assert table.caption == caption
    assert [column.title for column in table.columns] == ["group", "units", "cosine of the matched weights"]


def test_masks_have_their_sparsity_and_three_overlaps_in_the_order_of_the_titles() -> None:
    overlaps = {"permuted": 0.4, "unpermuted": 0.2, "independent": 0.1}
    table = masks_table({"first": {"sparsity": 0.9, **overlaps}, "second": {"sparsity": 0.5, **overlaps}})
    assert table.rows == [["first", 0.9, 0.4, 0.2, 0.1], ["second", 0.5, 0.4, 0.2, 0.1]]
    titles = ["mask", "sparsity", "π(mask)", "mask as it is", "independent masks"]
    assert [column.title for column in table.columns] == titles
    assert "0.4000" in table.to_text()


def test_barriers_are_in_nats_and_percent() -> None:
    curve = {"loss_barrier": 0.5, "error_barrier": 0.25}
    table = barrier_table({"none": {"before": curve}, "bn_reset": {"after": curve}})
    assert table.rows == [["raw", "before alignment", 0.5, 25], ["BN reset", "after alignment", 0.5, 25]]
