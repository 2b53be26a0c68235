"""Sparse runs by place: order, and what is paired over rewind moments."""

from __future__ import annotations

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.report.study.runs import Place, group_runs, in_order, over_rewinds


def run(**changes: object) -> dict[str, object]:
    return {
        "width": 1, "seed": 0, "method": "lth", "sparsity": 0.9, "rewind": "20ep", "top1": 0.9, "top5": 0.99
    } | changes  # fmt: skip


def test_places_are_in_the_order_of_width_sparsity_and_rewind() -> None:
    records = [
        run(width=width, sparsity=sparsity, rewind=rewind)
        for width in (4, 1)
        for sparsity in (0.97, 0.9)
        for rewind in ("20ep", "0it", "1ep", "500it")
    ]
    grouped = group_runs(records)
    assert list(grouped) == [1, 4]
    moments = ["0it", "500it", "1ep", "20ep"]
    assert list(grouped[1]) == [Place(sparsity, moment) for sparsity in (0.9, 0.97) for moment in moments]
    assert str(Place(0.9, "20ep")) == "0.90 · 20ep"


def test_rewinds_follow_the_plan_where_it_says_so() -> None:
    assert in_order(["20ep", "500it", "1ep"], ["1ep", "500it", "20ep"]) == ["1ep", "500it", "20ep"]
    assert in_order(["20ep", "5ep", "0it"]) == ["0it", "5ep", "20ep"]


def test_runs_without_the_metric_are_left_out() -> None:
    grouped = group_runs([run(), run(seed=1, top5=None)], metric="top5")
    assert grouped == {1: {Place(0.9, "20ep"): {"lth": {0: 0.99}}}}


def test_a_run_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InputError, match="seed 0, sparsity 0.9, method 'lth' is there twice"):
        group_runs([run(), run(top1=0.8)])
    assert len(group_runs([run(), run(rewind="5ep")])[1]) == 2


def test_means_over_rewinds_are_of_what_all_methods_have() -> None:
    groups = [{"a": {0: 0.2, 1: 0.5}, "b": {0: 0.1, 1: 0.1}}, {"a": {0: 0.4, 1: 0.9}, "b": {0: 0.3}}]
    means = over_rewinds(groups, ["a", "b"])
    assert means["a"] == pytest.approx({0: 0.3, 1: 0.5})  # seed 1 has b at the first only
    assert means["b"] == pytest.approx({0: 0.2, 1: 0.1})
    assert over_rewinds(groups, ["a", "c"]) == {"a": {}, "c": {}}
