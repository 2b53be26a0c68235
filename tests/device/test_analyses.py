"""Matching, pruning, connectivity, diversity and symmetry on the pretended device give what they give on the CPU."""

from __future__ import annotations

import pytest
import torch
from pretended import NAME
from small import Spots
from works import WORKS, case_on, line, plain, without_batchnorm

from rebasin_lt.connectivity.corrections import CORRECTIONS


@pytest.mark.filterwarnings("ignore:.*fewer images.*", "ignore:.*images.*units.*", "ignore:.*normalised.*")
@pytest.mark.parametrize("name", WORKS)
def test_result_is_that_of_the_cpu(name, request) -> None:
    expected = plain(WORKS[name](case_on("cpu")))
    device = request.getfixturevalue("device")
    found = plain(WORKS[name](case_on(device)))
    assert found == expected


def test_batches_that_lie_on_the_device_reach_a_network_on_the_cpu(device) -> None:
    case = case_on("cpu")
    sent = case._replace(batches=[(images.to(device), labels.to(device)) for images, labels in case.batches])
    assert plain(line(sent, "none")) == plain(line(case, "none"))


def test_images_have_one_copy_on_a_device_whatever_it_is_called(device) -> None:
    images = Spots().open_part("test")
    assert images.on(torch.device(NAME)) is images.on(torch.device(NAME, 0))


@pytest.mark.parametrize("name", CORRECTIONS)
def test_line_without_batchnorm_is_that_of_the_cpu(name, request) -> None:
    expected = plain(line(case_on("cpu", without_batchnorm), name))
    device = request.getfixturevalue("device")
    assert plain(line(case_on(device, without_batchnorm), name)) == expected
