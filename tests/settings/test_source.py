"""Classes as their source says they are: as an import would find them."""

from __future__ import annotations

import pytest
from lightning import Trainer

from rebasin_lt.errors import InputError
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.classifier import Classifier, MaskedClassifier
from rebasin_lt.lit.data.registry import DATASETS
from rebasin_lt.settings.checked import check_settings
from rebasin_lt.settings.options import BarrierOptions, PermuteOptions
from rebasin_lt.settings.signatures import arguments
from rebasin_lt.settings.source import UNSURE, source_arguments, source_attribute, surely_takes

KINDS = [
    Classifier,
    MaskedClassifier,
    IterativeMagnitudePruning,
    PermuteOptions,
    BarrierOptions,
    Trainer,
    *DATASETS.values(),
]
VALUES = [None, True, 0, 3, 0.5, "sgd", "bf16-mixed", "high", "0it", [1], ["a"], [1, 2, 3], (0.1,), {}, {"a": 1}]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_arguments_are_those_of_the_class(kind) -> None:
    assert set(source_arguments(kind.__module__, kind.__name__)) == set(arguments(kind))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_surely_taken_is_not_refused(kind) -> None:
    sure = 0
    for name in arguments(kind):
        for value in VALUES:
            if surely_takes(kind.__module__, kind.__name__, {name: value}):
                sure += 1
                check_settings("here", kind, {name: value})
    assert sure >= len(arguments(kind)) // 2


def test_usual_settings_are_surely_taken_and_others_left_to_an_import() -> None:
    trainer = ("lightning.pytorch.trainer.trainer", "Trainer")
    assert surely_takes(*trainer, {"precision": "bf16-mixed", "gradient_clip_val": 1.0, "deterministic": True})
    assert not surely_takes(*trainer, {"precison": "bf16-mixed"})
    assert not surely_takes(*trainer, {"precision": "bf17"})
    assert not surely_takes(*trainer, {"max_epochs": 3}, but=["max_epochs"])
    with pytest.raises(InputError, match=r"here\.precision is 'bf17'"):
        check_settings("here", Trainer, {"precision": "bf17"})
    assert not surely_takes("nowhere.at_all", "Nothing", {"a": 1})
    assert not surely_takes("rebasin_lt.lit.classifier", "Nothing", {"a": 1})


@pytest.mark.parametrize("kind", DATASETS.values(), ids=lambda kind: kind.__name__)
def test_attributes_are_those_of_the_class(kind) -> None:
    for name in ("name", "published_size", "default_val_size", "num_classes"):
        found = source_attribute(kind.__module__, kind.__name__, name)
        assert found is UNSURE or found == getattr(kind, name)
    assert source_attribute(kind.__module__, kind.__name__, "name") == kind.name
    assert source_attribute(kind.__module__, kind.__name__, "mean") is UNSURE
