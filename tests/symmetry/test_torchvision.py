"""Every classifier of torchvision: its symmetry is found, whole, and holds."""

import warnings

import pytest
import torch
from torchvision import models

from rebasin_lt.errors import SymmetryError
from rebasin_lt.models.registry import default_input_shape
from rebasin_lt.symmetry.axis_type import AxisType
from rebasin_lt.symmetry.trace import infer_symmetry, trace_symmetry

CHANNELS_ALL_FREE = (
    *("vgg", "resnet", "wide_resnet", "densenet", "squeezenet", "googlenet", "inception", "mobilenet", "efficientnet"),
    *("mnasnet", "convnext"),
)
"""In these families every hidden channel belongs to a group."""

EXPECTED = {"an input of the network", "an output of the network", "kernel positions of a convolution"}
UNUSED = "not used in evaluation mode"  # the auxiliary heads of GoogLeNet and Inception


def check(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GoogLeNet and Inception announce another initialisation
        network = models.get_model(name, weights=None)
    symmetry = trace_symmetry(network, torch.randn(2, *default_input_shape(f"torchvision:{name}")))
    assert symmetry.error <= 1e-9
    assert symmetry.groups
    assert symmetry.unknown == {}
    assert [group for group in symmetry.groups if not symmetry.observations[group]] == []
    if name.startswith(CHANNELS_ALL_FREE):
        unused = [entry.name for entry in symmetry.frozen if entry.reason == UNUSED]
        assert all(entry.startswith(("aux1.", "aux2.", "AuxLogits.")) for entry in unused)
        assert [entry for entry in symmetry.frozen if entry.reason not in {*EXPECTED, UNUSED}] == []
        check_ends(network, symmetry)


def check_ends(network, symmetry):
    """What is fixed as an input or output is the first layer's input and the last one's output."""
    inputs = {entry.name for entry in symmetry.frozen if entry.reason == "an input of the network"}
    outputs = {entry.name for entry in symmetry.frozen if entry.reason == "an output of the network"}
    used = [name for name, parameter in network.named_parameters() if not name.startswith(("aux", "Aux"))]
    assert inputs == {used[0]}
    assert outputs <= set(used[-2:])
    assert outputs


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_the_symmetry_of_small_networks_is_found(name):
    check(name)


@pytest.fixture(scope="module")
def deep():
    """A network that at its initialisation damps its first layers to 1e-9 of the outputs, an input, its symmetry."""
    network, images = models.mobilenet_v3_large(weights=None), torch.randn(2, 3, 64, 64)
    return network, images, infer_symmetry(network, images)


@pytest.mark.parametrize("left_behind", ["features.0.1.running_var", "features.1.block.0.0.weight"])
def test_the_check_sees_the_first_layers_of_a_deep_network(deep, monkeypatch, left_behind):
    network, images, symmetry = deep
    unmoved = tuple(AxisType(axis.size) for axis in symmetry.axes[left_behind])
    monkeypatch.setattr(symmetry, "places", {**symmetry.places, left_behind: unmoved})
    with pytest.raises(SymmetryError, match="changes the outputs of MobileNetV3"):
        symmetry.verify(network, images)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models(module=models))
def test_the_symmetry_of_every_classifier_is_found(name):
    check(name)


@pytest.mark.slow
def test_these_are_all_eighty():
    assert len(models.list_models(module=models)) >= 80
