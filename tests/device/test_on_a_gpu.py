"""What the tests on the pretended device do, on a GPU: it runs, and comes to what a CPU comes to, up to rounding."""

from __future__ import annotations

import math

import pytest
from trainings import SCENARIOS
from works import WORKS, case_on, plain

from rebasin_lt.lit.checkpoint_content import MASK

pytestmark = pytest.mark.gpu
GPU = {"accelerator": "gpu"}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_training_runs_and_pruned_weights_are_zero(scenario, tmp_path) -> None:
    found = scenario(tmp_path, GPU)
    assert all(math.isfinite(value) for value in found["metrics"].values())
    content = found["content"]
    for name, kept in content.get(MASK, {}).items():
        weights = content["state_dict"]
        weight = weights[name] if name in weights else weights[f"net.{name}"]
        assert not weight[~kept].any()


@pytest.mark.filterwarnings("ignore:.*fewer images.*", "ignore:.*images.*units.*", "ignore:.*normalised.*")
@pytest.mark.parametrize("name", WORKS)
def test_result_has_the_form_of_the_cpus(name) -> None:
    found, expected = plain(WORKS[name](case_on("cuda"))), plain(WORKS[name](case_on("cpu")))
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
