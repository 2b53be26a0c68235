"""Networks that are no better than a constant answer."""

from __future__ import annotations

import pytest

from rebasin_lt.judging.chance import collapse_text, collapsed_metric


@pytest.mark.parametrize(
    ("metrics", "classes", "found"),
    [
        ({"val/top1": 10.0}, 10, "val/top1"),
        ({"val/top1": 12.6}, 10, None),
        ({"val/top1": 90.0, "test/top1": 10.0, "train/top1": 99.0}, 10, "test/top1"),
        ({"test/top1": 90.0, "val/top1": 10.0}, 10, None),  # the test decides
        ({"val/top1": 10.0}, None, None),
        ({"val_acc": 0.1, "train_acc": 0.9}, 10, "val_acc"),
        ({"test/accuracy": 10.0}, 10, "test/accuracy"),
        ({"val_acc": 0.9, "val_acc5": 0.1, "my_acc": 0.1}, 10, None),
        ({}, 10, None),
    ],
)
def test_the_accuracy_at_chance_is_named(metrics, classes, found) -> None:
    assert collapsed_metric(metrics, classes) == found


def test_what_to_do_depends_on_the_mask() -> None:
    dense = collapse_text({"val/top1": 10.0}, 10, "runs/a", is_sparse=False)
    assert dense == (
        "val/top1 10 is what a constant answer gives (10 classes): the network learned nothing: train longer, or with "
        "another learning rate"
    )
    sparse = collapse_text({"val/top1": 10.0}, 10, "runs/a", is_sparse=True)
    assert "collapsed: `rebasin-lt mask --mask FILE --ckpt runs/a/last.ckpt --out DIR` counts units" in sparse
    assert collapse_text({"val/top1": 50.0}, 10, "runs/a", is_sparse=True) is None


def test_the_command_that_looks_at_a_collapsed_network_can_be_copied() -> None:
    text = collapse_text({"test/top1": 10.0}, 10, "runs/my run", is_sparse=True)
    assert "`rebasin-lt mask --mask FILE --ckpt 'runs/my run/last.ckpt' --out DIR`" in text
