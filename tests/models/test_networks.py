"""What the networks are: sizes, names, initialisation, determinism, and what they refuse."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.models.registry import build_network, default_input_shape

SMALL = [
    "mlp",
    "conv2",
    "conv4",
    "conv6",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "vgg11",
    "vgg11_bn",
]


def count(network: nn.Module, contains: str = "", without: str = "\0", least_dims: int = 0) -> int:
    return sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if contains in name and without not in name and parameter.dim() >= least_dims
    )


@pytest.mark.parametrize("name", SMALL)
def test_network_makes_logits_and_depends_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(5)
    network = build_network(name, width=0.5, num_classes=7).eval()
    torch.manual_seed(5)
    again = build_network(name, width=0.5, num_classes=7).eval()
    images = torch.randn(3, *default_input_shape(name))
    assert network(images).shape == (3, 7)
    assert torch.equal(network(images), again(images))
    assert not torch.equal(network(images), build_network(name, width=0.5, num_classes=7).eval()(images))


def test_resnet20_has_the_papers_parameter_counts() -> None:
    network = build_network("resnet20")
    assert count(network) == 292_954
    assert count(network, without="shortcut", least_dims=2) == 268_336
    assert count(network, contains="shortcut", least_dims=2) == 23_040


@pytest.mark.parametrize(("name", "layers"), [("resnet20", 20), ("resnet32", 32), ("resnet110", 110)])
def test_resnets_have_as_many_weight_layers_as_their_name_says(name: str, layers: int) -> None:
    network = build_network(name, width=0.25)
    weights = [p for n, p in network.named_parameters() if p.dim() > 1 and "shortcut" not in n]
    assert len(weights) == layers


def test_resnet_shortcuts_are_3x3_convolutions_with_normalisation_at_stage_changes_only() -> None:
    network = build_network("resnet32")
    shortcuts = {
        name: m for name, m in network.named_modules() if name.endswith("shortcut") and len(list(m.children()))
    }
    assert list(shortcuts) == ["layer2.0.shortcut", "layer3.0.shortcut"]
    for convolution, norm in shortcuts.values():
        assert convolution.kernel_size == (3, 3)
        assert convolution.stride == (2, 2)
        assert isinstance(norm, nn.BatchNorm2d)


def test_resnet_starts_from_kaiming_normal() -> None:
    network = build_network("resnet20", width=4)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            fan_in = parameter[0].numel()
            assert parameter.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.15), name


@pytest.mark.parametrize("name", ["resnet20", "vgg11", "vgg11_bn"])
@pytest.mark.parametrize("width", [0.5, 2, 1.5])
def test_width_multiplies_every_hidden_channel_count(name: str, width: float) -> None:
    plain, wide = (build_network(name, width=w).state_dict() for w in (1, width))
    assert list(plain) == list(wide)
    first, head = ("conv1.weight", "linear.") if "resnet" in name else ("features.0.weight", "classifier.")
    for key, tensor in plain.items():
        outer = [1 if key.startswith(head) else width, 1 if key == first else width][: tensor.dim()]
        expected = [size * factor for size, factor in zip(tensor.shape, outer, strict=False)]
        assert list(wide[key].shape) == [*expected, *tensor.shape[2:]], key


def test_mlp_has_three_hidden_layers_of_64_for_any_image() -> None:
    shapes = [tuple(p.shape) for p in build_network("mlp", input_shape=(3, 5, 7), num_classes=4).parameters()]
    assert shapes == [(64, 105), (64,), (64, 64), (64,), (64, 64), (64,), (4, 64), (4,)]
    assert tuple(build_network("mlp", width=2).layers[0].weight.shape) == (128, 64)


def test_resnet20_runs_on_digits_and_vgg_on_larger_images() -> None:
    assert build_network("resnet20", input_shape=(1, 8, 8))(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    assert build_network("vgg11", width=0.25, input_shape=(3, 64, 32))(torch.randn(2, 3, 64, 32)).shape == (2, 10)


def test_vgg11_has_biases_and_one_linear_layer_and_normalisation_only_as_bn() -> None:
    plain, normalised = build_network("vgg11"), build_network("vgg11_bn")
    for network, norms in ((plain, 0), (normalised, 8)):
        kinds = [type(module) for module in network.modules()]
        assert kinds.count(nn.Conv2d) == 8
        assert kinds.count(nn.Linear) == 1
        assert kinds.count(nn.BatchNorm2d) == norms
        assert all(m.bias is not None for m in network.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize(("name", "pairs", "thousands"), [("conv2", 1, 38), ("conv4", 2, 259), ("conv6", 3, 1144)])
def test_lottery_networks_are_those_published(name: str, pairs: int, thousands: int) -> None:
    """Frankle and Carbin (ICLR 2019), Figure 2: 38K, 260K and 1.1M weights, rounded, in convolutions, Glorot normal."""
    network = build_network(name)
    kinds = [type(module) for module in network.modules()]
    assert [kinds.count(kind) for kind in (nn.Conv2d, nn.MaxPool2d, nn.Linear)] == [2 * pairs, pairs, 3]
    assert count(network, contains="features", least_dims=2) // 1000 == thousands
    for parameter in network.parameters():
        if parameter.dim() > 1:
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(parameter)
            assert parameter.std().item() == pytest.approx((2 / (fan_in + fan_out)) ** 0.5, rel=0.15)
        else:
            assert not parameter.any()


def test_lottery_networks_take_images_of_odd_sizes_and_refuse_those_that_pooling_would_empty() -> None:
    assert build_network("conv4", width=0.25, input_shape=(1, 14, 13))(torch.randn(2, 1, 14, 13)).shape == (2, 10)
    with pytest.raises(InputError, match=r"\[1, 8, 7\], but conv6 halves images 3 times: .* 8×8 pixels"):
        build_network("conv6", input_shape=(1, 8, 7))


def test_resnet50_of_width_1_is_torchvisions_bit_for_bit() -> None:
    from torchvision.models import resnet50

    torch.manual_seed(0)
    ours = build_network("resnet50", num_classes=9)
    torch.manual_seed(0)
    theirs = resnet50(num_classes=9)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


def test_resnet50_width_multiplies_stem_planes_and_output_alike() -> None:
    shapes = {name: tuple(p.shape) for name, p in build_network("resnet50", width=0.5).named_parameters()}
    assert shapes["conv1.weight"] == (32, 3, 7, 7)
    assert shapes["layer1.0.conv2.weight"] == (32, 32, 3, 3)
    assert shapes["layer4.2.conv3.weight"] == (1024, 256, 1, 1)
    assert shapes["fc.weight"] == (10, 1024)


@pytest.mark.parametrize("width", [0, -1, float("nan")])
def test_width_must_be_positive(width: float) -> None:
    with pytest.raises(InputError, match=r"width is .*, expected a factor above 0"):
        build_network("mlp", width=width)


@pytest.mark.parametrize("name", ["mlp", "resnet20", "vgg11", "resnet50"])
def test_width_must_keep_channels_whole(name: str) -> None:
    with pytest.raises(InputError, match=r"width is 0\.3, which makes .* expected a factor that keeps"):
        build_network(name, width=0.3)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="num_classes is 0, expected at least 1"):
        build_network("mlp", num_classes=0)
    with pytest.raises(InputError, match=r"input_shape is \[3, 0, 4\], expected channels, height and width"):
        build_network("mlp", input_shape=(3, 0, 4))
    with pytest.raises(InputError, match=r"input_shape is \[1, 8, 8\], but vgg11 halves images 5 times"):
        build_network("vgg11", input_shape=(1, 8, 8))


def test_building_our_networks_needs_neither_lightning_nor_torchvision() -> None:
    code = (
        "import sys; from rebasin_lt.models.registry import build_network; build_network('resnet20');"
        "build_network('vgg11', width=.25); print(sorted({'lightning', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
