"""Init memory, on states small enough to count."""

from __future__ import annotations

import pytest
import torch

from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.memory import init_memory


def test_a_mask_of_its_initial_weights_remembers_all_and_one_of_others_nothing() -> None:
    initial = {"a": torch.tensor([[4.0, -3.0, 0.2, 0.1]])}
    same, other = (Mask({"a": torch.tensor([keep], dtype=torch.bool)}) for keep in ([1, 1, 0, 0], [0, 0, 1, 1]))
    assert init_memory(same, initial)["iou"] == 1
    assert init_memory(other, initial)["iou"] == 0
    # Two of four and two of four: they share 0, 1, 2 with probability 1/6, 4/6, 1/6, an overlap of 0, 1/3, 1.
    assert init_memory(same, initial)["chance"] == pytest.approx(4 / 6 / 3 + 1 / 6)
