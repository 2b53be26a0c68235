"""Matching, pruning, connectivity, diversity and symmetry on the pretended device give what they give on the CPU."""

from __future__ import annotations

import pytest
from works import WORKS, case_on, line, plain, without_batchnorm

from rebasin_lt.connectivity.corrections import CORRECTIONS


@pytest.mark.filterwarnings("ignore:.*fewer images.*", "ignore:.*images.*units.*", "ignore:.*normalised.*")
@pytest.mark.parametrize("name", WORKS)
def test_result_is_that_of_the_cpu(name, request) -> None:
    expected = plain(WORKS[name](case_on("cpu")))
    device = request.getfixturevalue("device")
    found = plain(WORKS[name](case_on(device)))
    assert found == expected


@pytest.mark.parametrize("name", CORRECTIONS)
def test_line_without_batchnorm_is_that_of_the_cpu(name, request) -> None:
    expected = plain(line(case_on("cpu", without_batchnorm), name))
    device = request.getfixturevalue("device")
    assert plain(line(case_on(device, without_batchnorm), name)) == expected
