import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from rebasin_lt.errors import InputError
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.prunable import prunable, prunable_names


class TiedDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.hidden = nn.Embedding(20, 16), nn.Linear(16, 16)
        self.decoder = nn.Linear(16, 20, bias=False)
        self.decoder.weight = self.embed.weight


class Stage(nn.Module):
    """As timm's ConvNeXt and Swin name what lies between their stages: on the main path, nothing beside it."""

    def __init__(self, downsample):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(nn.Conv2d(8, 8, 7, groups=8), nn.Conv2d(8, 16, 1))
        self.gamma = nn.Parameter(torch.ones(8, 1, 1))


class PatchMerging(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(16), nn.Linear(16, 8, bias=False)


class Tokens(nn.Module):
    """Raw parameters, as transformers have them."""

    def __init__(self):
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.pos_embedding = nn.Parameter(torch.zeros(1, 5, 8))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.experts = nn.ParameterList([torch.zeros(4, 8, 8)])
        self.norm = nn.LayerNorm((5, 8))


def legacy_weight_norm():
    layer = nn.Linear(6, 4)
    layer.weight_g, layer.weight_v = nn.Parameter(torch.ones(4, 1)), nn.Parameter(layer.weight.detach().clone())
    del layer.weight
    return nn.Sequential(layer)


ROWS = {
    "lstm": (nn.LSTM(4, 5, num_layers=2, proj_size=3), {}),
    "gru": (nn.GRU(4, 5, bidirectional=True), {}),
    "attention": (nn.MultiheadAttention(8, 2, add_bias_kv=True), {"bias_k": "biases", "bias_v": "biases"}),
    "attention of other widths": (nn.MultiheadAttention(8, 2, kdim=4, vdim=6), {}),
    "transposed": (
        nn.ModuleList([nn.ConvTranspose1d(2, 3, 3), nn.ConvTranspose2d(2, 3, 3), nn.ConvTranspose3d(2, 3, 3)]),
        {},
    ),
    "bilinear": (nn.Bilinear(3, 4, 1), {}),
    "embedding": (
        nn.ModuleDict({"table": nn.Embedding(9, 4), "bag": nn.EmbeddingBag(9, 4), "out": nn.Linear(4, 9)}),
        {"table.weight": "embeddings", "bag.weight": "embeddings"},
    ),
    "weight_norm": (
        nn.Sequential(weight_norm(nn.Linear(6, 4)), weight_norm(nn.Conv2d(1, 4, 3)), weight_norm(nn.Linear(4, 1))),
        {f"{k}.parametrizations.weight.original0": "lengths" for k in range(3)},
    ),
    "weight_norm of old": (legacy_weight_norm(), {"0.weight_g": "lengths"}),
    "spectral_norm": (nn.Sequential(spectral_norm(nn.Linear(6, 4))), {}),
    "tied decoder": (TiedDecoder(), {}),
    "convnext": (Stage(nn.Sequential(nn.GroupNorm(1, 4), nn.Conv2d(4, 8, 2, 2))), {"gamma": "scales"}),
    "swin": (Stage(PatchMerging()), {"gamma": "scales"}),
    "shortcut": (
        Stage(nn.Sequential(nn.Conv2d(4, 8, 1, 2), nn.BatchNorm2d(8))),
        {"downsample.0.weight": "shortcuts", "gamma": "scales"},
    ),
    "tokens": (
        Tokens(),
        {
            "class_token": "scales",
            "pos_embedding": "embeddings",
            "relative_position_bias_table": "biases",
            "norm.weight": "norms",
            "norm.bias": "biases",
        },
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_every_matrix_is_pruned_or_named_as_dense_with_its_share(row):
    network, dense = ROWS[row]
    found = prunable(network)
    matrices = {name: parameter.numel() for name, parameter in network.named_parameters() if parameter.dim() > 1}
    assert dict(found.dense) == dense
    assert set(found.names) == matrices.keys() - dense.keys()
    assert dict(found.sizes) == matrices
    assert all(f"{name} {matrices[name] / sum(matrices.values()):.2%}" in found.describe() for name in dense)
    assert list(Mask.ones_of(network)) == list(found.names)
    assert "\n" not in found.describe()


def by_class(model):
    """The rule of old, which the paper's networks must not notice: classes of modules, less shortcuts by name."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    names = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, kinds)}
    names = {name for name in names if "shortcut" not in name and "downsample" not in name}
    return [name for name, _ in model.named_parameters() if name in names]


@pytest.mark.parametrize(
    "name",
    ["mlp", "conv2", "conv4", "conv6", "resnet20", "vgg11", "resnet50"]
    + [
        f"torchvision:{name}"
        for name in ("resnet18", "resnext50_32x4d", "vgg11_bn", "mobilenet_v2", "convnext_tiny", "swin_t")
    ],
)
def test_networks_of_convolutions_and_linear_layers_prune_what_they_always_did(name):
    with torch.device("meta"):
        network = build_network(name, width=1, num_classes=10)
    assert prunable_names(network) == by_class(network)


def test_exclude_and_include_take_patterns_and_kinds():
    network = nn.ModuleDict({"embed": nn.Embedding(9, 4), "shortcut": nn.Conv2d(2, 2, 1), "out": nn.Linear(4, 9)})
    assert prunable_names(network) == ["out.weight"]
    assert prunable_names(network, exclude=()) == ["shortcut.weight", "out.weight"]
    assert prunable_names(network, include=("embeddings", "short*")) == [
        "embed.weight",
        "shortcut.weight",
        "out.weight",
    ]
    assert prunable(network, exclude=("out*",)).dense == {"embed.weight": "embeddings", "out.weight": "excluded"}
    assert prunable_names(network, exclude=("*",), include=("out*",)) == ["out.weight"]
    with pytest.raises(InputError, match=r"include names 'ou', which fits no weight matrix of ModuleDict: expected"):
        prunable(network, include=("ou",))
    with pytest.raises(InputError, match=r"no prunable weight in ModuleDict: of its 3 matrices .* leaves none"):
        prunable(network, exclude=("*",))


def test_layers_without_a_shape_yet_are_named():
    with pytest.raises(InputError, match=r"0.weight of Sequential is of a lazy layer that has seen no input"):
        prunable(nn.Sequential(nn.LazyLinear(4)))


def test_what_a_network_leaves_out_of_its_checkpoints_stays_dense():
    class Partial(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def state_dict(self, *args, **kwargs):
            return {name: value for name, value in super().state_dict(*args, **kwargs).items() if "head" in name}

    assert prunable(Partial(), include=("*",)).dense == {"encoder.weight": "left out of checkpoints"}
