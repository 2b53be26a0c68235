"""Init memory and agreement of signs, on states small enough to count."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks._memory import init_memory, share_left, sign_agreement
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.pruning.mask import Mask


def test_a_mask_of_its_initial_weights_remembers_all_and_one_of_others_nothing() -> None:
    initial = {"a": torch.tensor([[4.0, -3.0, 0.2, 0.1]])}
    same, other = (Mask({"a": torch.tensor([keep], dtype=torch.bool)}) for keep in ([1, 1, 0, 0], [0, 0, 1, 1]))
    assert init_memory(same, initial)["iou"] == 1
    assert init_memory(other, initial)["iou"] == 0
    # Two of four and two of four: they share 0, 1, 2 with probability 1/6, 4/6, 1/6, an overlap of 0, 1/3, 1.
    assert init_memory(same, initial)["chance"] == pytest.approx(4 / 6 / 3 + 1 / 6)


def test_share_left_is_that_of_weights_which_only_decay() -> None:
    """As torch has it without gradients, but for the few steps that momentum takes to gather speed."""
    recipe = Recipe(
        data={"name": "digits", "batch_size": 10},
        dense={"learning_rate": 0.01, "weight_decay": 0.02, "lr_schedule": "cosine"},
        dense_epochs=40,
    )
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimiser = torch.optim.SGD([weight], lr=0.01, weight_decay=0.02, momentum=0.9)
    for epoch in range(40):
        optimiser.param_groups[0]["lr"] = 0.01 * 0.5 * (1 + math.cos(math.pi * epoch / 40))
        for _ in range(100):
            weight.grad = torch.zeros_like(weight)
            optimiser.step()
    assert share_left(recipe, 1003) == pytest.approx(weight.item(), rel=0.05)


def test_signs_are_compared_where_the_mask_keeps() -> None:
    mask = Mask({"a": torch.tensor([True, True, False, True])})
    ticket, reference = {"a": torch.tensor([1.0, -2, 3, -4])}, {"a": torch.tensor([5.0, 6, -7, -8])}
    assert sign_agreement(mask, ticket, reference) == pytest.approx(2 / 3)
