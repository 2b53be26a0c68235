"""Training on the pretended device is that on the CPU, bit for bit: weights, masks, optimisers, metrics, files."""

from __future__ import annotations

import pytest
from accelerator import TRAINER
from small import CPU, differences
from trainings import SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_training_is_that_of_the_cpu_to_the_bit(scenario, tmp_path, request) -> None:
    expected = scenario(tmp_path / "cpu", CPU)
    request.getfixturevalue("device")
    assert not differences(scenario(tmp_path / "pretended", TRAINER), expected)
