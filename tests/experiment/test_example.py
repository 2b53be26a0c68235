"""The example that a network is traced with: where it comes from, in which order, and what is refused."""

from __future__ import annotations

import own
import pytest
import torch
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.example import example_of, sizes_of
from rebasin_lt.experiment.subjects import named_inputs
from rebasin_lt.feeding.calls import Fed

IDS = torch.ones(5, 3, dtype=torch.int64)


def shapes(*args, **settings) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in example_of(*args, **settings).tensors]


def test_the_example_is_what_is_said_then_the_modules_own_then_the_known_shape_then_a_batch_then_a_guess() -> None:
    with_example, without = own.Regressor(), nn.Linear(12, 2)
    batches, where = (lambda: [torch.zeros(5, 9, 12)]), {"known": (8, 12), "guessed": (7, 12)}
    assert shapes(with_example, "4,12", batches, **where) == [(2, 4, 12)]
    assert shapes(with_example, None, batches, inputs_are_said=True, **where) == [(2, 9, 12)]
    assert shapes(with_example, None, batches, **where) == [(2, 12)]
    assert shapes(without, None, batches, **where) == [(2, 8, 12)]
    assert shapes(without, None, batches, guessed=(7, 12)) == [(2, 9, 12)]
    assert shapes(without, None, guessed=(7, 12)) == [(2, 7, 12)]


def test_all_inputs_of_a_batch_are_cut_to_two_examples() -> None:
    call = example_of(own.TextClassifier(), batches=lambda: [{"input_ids": IDS, "attention_mask": IDS, "labels": IDS}])
    assert [(tuple(each.shape), each.dtype) for each in call.tensors] == [((2, 3), torch.int64)] * 2
    fed = Fed([{"ids": IDS, "attention_mask": IDS}], named_inputs("input_ids=ids, attention_mask"))
    assert shapes(own.TextClassifier(), batches=lambda: fed) == [(2, 3)] * 2


@pytest.mark.parametrize("guessed", [None, (3, 32, 32)])
def test_inputs_of_which_nothing_is_known_are_refused_with_the_ways_out(guessed) -> None:
    with pytest.raises(InputError, match=r"nothing says which inputs TextClassifier takes.*: give --data .* 16:int64"):
        example_of(own.TextClassifier(), guessed=guessed)


@pytest.mark.parametrize("text", ["", "3,0", "3,x", "16:int", "16:zeros", "3;4", "-1"])
def test_a_shape_that_is_none_is_refused(text: str) -> None:
    if text == "16:int":
        assert sizes_of(text) == ([16], torch.int32)
        return
    with pytest.raises(InputError, match=f"--input-shape is '{text}', expected the sizes of one example"):
        sizes_of(text)


@pytest.mark.parametrize("text", ["", "ids,", "ids,ids", "ids=", "=ids"])
def test_names_of_inputs_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"--inputs is '{text}', expected names with commas between, each once"):
        named_inputs(text)
