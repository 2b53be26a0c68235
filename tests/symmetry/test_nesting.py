"""Nested groups: what is found and what must not be, and permutations that choose anew in each outer unit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from nested import NESTED, Decoder, Experts, built, planted, symmetry_of
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import trace_symmetry

HEADS = "encoder.layers.encoder_layer_0.self_attention.in_proj_weight"
EXPECTED = {
    "vit": {f"{HEADS}[1]": (HEADS,), f"{HEADS}[2]": (HEADS,)},
    "encoder": {f"layers.0.self_attn.in_proj_weight[{k}]": ("layers.0.self_attn.in_proj_weight",) for k in (1, 2)},
    "decoder": {"q.weight[1]": ("q.weight",), "q.weight[2]": ("q.weight",), "v.weight": ("q.weight",)},
    "rotary": {"q.weight[1]": ("q.weight",), "v.weight": ("q.weight",)},
    "sinks": {"q.weight[1]": ("q.weight",), "v.weight": ("q.weight",)},
    "experts": {"w1[1]": ("w1",)},
    "topk": {"w1": ("gate.weight",)},
    "grouped": {"0.weight[1]": ("0.weight",), "3.weight": ("0.weight",)},
    "listed": {"experts.0.0.weight": ("gate.weight",)},
    "listed, topk": {"experts.0.0.weight": ("gate.weight",)},
    "averaged": {"experts.0.0.weight[1]": ("experts.0.0.weight",)},
}


class Net(nn.Module):
    """A network by its function of (self, input), with some layers."""

    def __init__(self, function: Any, **layers: Any) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def nested_in(network: nn.Module, *shape: int) -> dict[str, tuple[str, ...]]:
    """What is nested; the trace verifies it on the way."""
    return dict(trace_symmetry(network.double(), torch.randn(shape, dtype=torch.float64)).within)


@pytest.mark.parametrize("name", NESTED)
def test_nested_groups_are_those_inside_heads_experts_and_groups(name: str) -> None:
    symmetry = symmetry_of(name)
    assert dict(symmetry.within) == EXPECTED[name]
    assert symmetry.error < 1e-12


def test_rotary_channels_stay_and_all_others_do_not() -> None:
    symmetry = symmetry_of("rotary")
    assert symmetry.axes["k.weight"][0].groups == ("q.weight",)  # the heads; their channels are in no group
    assert symmetry.axes["v.weight"][0].groups == ("q.weight", "v.weight")


def test_inner_bias_that_all_experts_share_ties_their_hidden_units() -> None:
    assert nested_in(Experts(shared_bias=True), 4, 3) == {}
    assert nested_in(Experts(), 4, 3) == {"w1[1]": ("w1",)}


def mixed_heads(net: Any, x: Tensor) -> Tensor:
    heads = net.a(x).view(len(x), 4, 3)
    return net.b(torch.einsum("bhc,hk->bkc", heads, net.mix).relu().flatten(1))


def softmax_over_heads(net: Any, x: Tensor) -> Tensor:
    heads = torch.einsum("bhc,hc->bhc", net.a(x).view(len(x), 4, 3), net.scale)
    return net.b(heads.softmax(1).flatten(1))


def normalised_over_heads(net: Any, x: Tensor) -> Tensor:
    heads = torch.einsum("bhc,hc->bhc", net.a(x).view(len(x), 4, 3), net.scale)
    return net.b(torch.nn.functional.layer_norm(heads.transpose(1, 2), (4,)).transpose(1, 2).flatten(1))


def gram_of_heads(net: Any, x: Tensor) -> Tensor:
    heads = torch.einsum("bhc,hc->bhc", net.a(x).view(len(x), 4, 3), net.scale)
    return (heads @ heads.transpose(1, 2)).sum((1, 2))[:, None] + net.b(heads.flatten(1))


def summed_over_heads(net: Any, x: Tensor) -> Tensor:
    return net.c(net.a(x).view(len(x), 4, 3).relu().sum(1))


LAYERS = {"a": nn.Linear(5, 12), "b": nn.Linear(12, 2), "c": nn.Linear(3, 2)}


@pytest.mark.parametrize("function", [mixed_heads, gram_of_heads])
def test_heads_that_are_mixed_while_their_channels_are_apart_tie_these(function: Any) -> None:
    weights = {"scale": nn.Parameter(torch.randn(4, 3)), "mix": nn.Parameter(torch.randn(4, 4))}
    assert nested_in(Net(function, **LAYERS, **weights), 6, 5) == {}


@pytest.mark.parametrize("function", [softmax_over_heads, normalised_over_heads, summed_over_heads])
def test_what_is_mixed_over_heads_for_each_channel_permutes_heads_within_channels(function: Any) -> None:
    """The other way round than in attention: each channel has an order of the heads of its own."""
    network = Net(function, **LAYERS, scale=nn.Parameter(torch.randn(4, 3)))
    assert nested_in(network, 6, 5) == {"a.weight": ("a.weight[1]",)}  # 4 heads, in 3 channels


def test_softmax_over_the_channels_of_each_head_leaves_them_free() -> None:
    def within_heads(net: Any, x: Tensor) -> Tensor:
        heads = torch.einsum("bhc,hc->bhc", net.a(x).view(len(x), 4, 3), net.scale)
        return net.b(heads.softmax(2).flatten(1))

    network = Net(within_heads, a=nn.Linear(5, 12), b=nn.Linear(12, 2), scale=nn.Parameter(torch.randn(4, 3)))
    assert nested_in(network, 6, 5) == {"a.weight[1]": ("a.weight",)}


def test_softmax_over_one_dimension_of_a_view_splits_it() -> None:
    """A view alone splits nothing, and 12 units would change places between the heads that are normalised apart."""

    def viewed(net: Any, x: Tensor) -> Tensor:
        return net.b(net.a(x).view(len(x), 4, 3).softmax(-1).flatten(1))

    network = Net(viewed, a=nn.Linear(5, 12), b=nn.Linear(12, 2)).double()
    symmetry = trace_symmetry(network, torch.randn(6, 5, dtype=torch.float64))
    assert dict(symmetry.groups) == {"a.weight": 4, "a.weight[1]": 3}
    assert dict(symmetry.within) == {"a.weight[1]": ("a.weight",)}


def test_group_norm_ties_what_is_slower_than_its_groups() -> None:
    network = nn.Sequential(nn.Conv2d(2, 12, 1), nn.GroupNorm(3, 12), nn.ReLU(), nn.Conv2d(12, 3, 1), nn.Flatten())
    assert nested_in(network, 2, 2, 4, 4) == {"0.weight[1]": ("0.weight",)}  # channels in each of the norm's groups


def test_three_levels_are_found_and_verified() -> None:
    """Heads of 2 halves of 3 channels: halves change places within a head, channels within a half."""

    def halves(net: Any, x: Tensor) -> Tensor:
        parts = torch.einsum("bhpc,hpc->bhpc", net.a(x).view(len(x), 4, 2, 3), net.scale)
        parts = parts * parts.square().mean(3, keepdim=True)  # by half
        return net.b((parts * parts.mean((2, 3), keepdim=True)).flatten(1))  # by head

    network = Net(halves, a=nn.Linear(5, 24), b=nn.Linear(24, 2), scale=nn.Parameter(torch.randn(4, 2, 3)))
    symmetry = trace_symmetry(network.double(), torch.randn(2, 5, dtype=torch.float64))
    heads, part, channel = symmetry.groups
    assert dict(symmetry.within) == {part: (heads,), channel: (heads, part)}
    assert symmetry.random()[channel].shape == (4, 2, 3)
    assert symmetry.log10 == pytest.approx(math.log10(24 * 2**4 * 6**8))


def test_number_of_symmetries_of_a_layer_of_attention() -> None:
    """Those of 12 heads with 64 channels of two kinds, as in ViT-B: 2,147 decades, not 187."""
    attention = nn.TransformerEncoderLayer(768, 12, 2, batch_first=True)
    symmetry = trace_symmetry(attention, torch.randn(1, 2, 768), verify=False)
    own = {group: symmetry.groups[group] for group in symmetry.groups if "self_attn" in group}
    assert sorted(own.values()) == [12, 64, 64]
    hidden = math.lgamma(3) / math.log(10)
    assert symmetry.log10 - hidden == pytest.approx(2147.1, abs=0.1)


@pytest.mark.parametrize("name", NESTED)
def test_permutations_of_nested_groups_form_a_group_that_acts(name: str) -> None:
    network, symmetry = built(name), symmetry_of(name)
    state = network.state_dict()
    a, b, c = (symmetry.random(torch.Generator().manual_seed(seed)) for seed in (1, 2, 3))
    assert a.within.keys() == symmetry.within.keys()  # each drew rows that differ
    once, twice = symmetry.permute(symmetry.permute(state, a), b), symmetry.permute(state, b.compose(a))
    assert all(torch.equal(once[key], twice[key]) for key in state)
    back = symmetry.permute(once, b.compose(a).inverse())
    assert all(torch.equal(back[key], state[key]) for key in state)
    assert a.inverse().compose(a) == a.compose(a.inverse()) == symmetry.identity()
    assert c.compose(b.compose(a)) == c.compose(b).compose(a)
    assert a.inverse().inverse() == a


@pytest.mark.parametrize("name", NESTED)
def test_outputs_stay_and_masks_follow(name: str) -> None:
    network, twin, symmetry, permutation = planted(name)
    inputs = NESTED[name][1](3)
    torch.testing.assert_close(network(inputs), twin(inputs), rtol=1e-10, atol=1e-10)
    mask = Mask({key: tensor > 0 for key, tensor in network.state_dict().items() if tensor.dim() > 1})
    moved = mask.permuted(symmetry, permutation)
    assert all(torch.equal(moved[key], twin.state_dict()[key] > 0) for key in mask)


def test_index_of_an_expert_is_that_of_the_place_it_comes_to() -> None:
    experts, symmetry = Experts(), symmetry_of("experts")
    hidden = torch.stack([torch.randperm(5) for _ in range(4)])
    outer = torch.tensor([2, 0, 3, 1])
    moved = symmetry.permute(experts, {"w1": outer, "w1[1]": hidden})
    for place in range(4):
        assert torch.equal(moved["w1"][place], experts.w1[outer[place]][hidden[place]])
        assert torch.equal(moved["w2"][place], experts.w2[outer[place]][:, hidden[place]])
    assert torch.equal(moved["gate.weight"], experts.gate.weight[outer])


def test_vector_for_a_nested_group_means_the_same_in_all_outer_units(tmp_path: Path) -> None:
    """So a file of an earlier release keeps its meaning, and one without nested rows is written as it was."""
    network, symmetry = built("decoder"), symmetry_of("decoder")
    vectors = {group: torch.randperm(size) for group, size in symmetry.groups.items()}
    rows = {
        group: index.expand(*symmetry.around(group), -1) if group in symmetry.within else index
        for group, index in vectors.items()
    }
    old, new = Permutation(vectors), Permutation(rows, symmetry.within)
    assert old == new
    moved = [symmetry.permute(network, permutation) for permutation in (vectors, rows, old)]
    assert all(torch.equal(moved[0][key], other[key]) for other in moved[1:] for key in other)
    new.save(tmp_path / "old.perm.safetensors")
    with safe_open(tmp_path / "old.perm.safetensors", framework="pt") as file:
        assert file.metadata()["format_version"] == "1"
    assert Permutation.load(tmp_path / "old.perm.safetensors") == old


def test_file_brings_nested_rows_back(tmp_path: Path) -> None:
    permutation = symmetry_of("decoder").random(torch.Generator().manual_seed(0))
    path = tmp_path / "new.perm.safetensors"
    permutation.save(path)
    assert Permutation.load(path) == permutation
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["format_version"] == "2"


@pytest.mark.parametrize(
    ("within", "message"),
    [
        ("{", "its nested groups are no JSON"),
        ("[]", "its nested groups are no object"),
        ('{"b": "a"}', "its nested groups are no lists of names"),
        ('{"b": [1]}', "its nested groups are no lists of names"),
        ("{}", r"permutation of b is torch.int64 of shape \(2, 3\), expected indices"),
        ('{"b": ["c"]}', r"permutation of b has shape \(2, 3\), expected one row for each of the 3 units of c"),
        ("[" * 100_000, "its nested groups are no JSON"),
        ('{"b": ["d"], "d": ["b"]}', "permutation of b is within d, expected other groups, each after those"),
        ('{"b": ["a"], "d": ["d"]}', "permutation of d is within d, expected other groups"),
    ],
)
def test_damaged_nesting_in_a_file_is_told(tmp_path: Path, within: str, message: str) -> None:
    indices = {"a": torch.arange(2), "c": torch.arange(3), "b": torch.tensor([[0, 1, 2], [1, 0, 2]])}
    if '"d"' in within:
        indices |= {"d": torch.tensor([[0, 1], [1, 0]]), "b": torch.tensor([[0, 1], [1, 0]])}
    about = {"format": "rebasin_lt.permutation", "format_version": "2", "within": within}
    save_file(indices, tmp_path / "wrong.perm.safetensors", metadata=about)
    with pytest.raises(BrokenFileError, match=message):
        Permutation.load(tmp_path / "wrong.perm.safetensors")


def test_rows_that_do_not_fit_are_refused() -> None:
    symmetry = symmetry_of("experts")
    with pytest.raises(InputError, match=r"w1\[1\] has shape \(3, 5\), expected 5 units in each of 4 others"):
        symmetry.permute({}, {"w1[1]": torch.arange(5).expand(3, -1)})
    with pytest.raises(InputError, match=r"w1 has shape \(2, 4\), expected 4 units in each of no others"):
        symmetry.permute({}, {"w1": torch.arange(4).expand(2, -1)})
    other = Permutation({"w1[1]": torch.stack([torch.arange(5).roll(k) for k in range(4)])}, {"w1[1]": ["leave"]})
    with pytest.raises(InputError, match=r"w1\[1\] is within leave, in this network it is within w1"):
        symmetry.permute({}, other)
    with pytest.raises(InputError, match=r"permutation of c is torch.int64 of shape \(0, 2\), expected indices"):
        Permutation({"c": torch.zeros(0, 2, dtype=torch.int64)}, {"c": ["a"]})
    rows = torch.tensor([[0, 1], [1, 0]])
    ours, theirs = (Permutation({"a": rows[0], "b": rows[0], "c": rows}, {"c": [outer]}) for outer in "ab")
    with pytest.raises(InputError, match="do not fit each other: c is within a in one and within b in the other"):
        ours.compose(theirs)
    with pytest.raises(InputError, match="permutation of c does not hold each of 0 to 1 once"):
        Permutation({"a": rows[0], "c": torch.tensor([[0, 1], [0, 0]])}, {"c": ["a"]})


def test_decoder_with_a_norm_of_queries_ties_channels_and_leaves_heads() -> None:
    """One scale for the channels of all heads: these are alike in all, but query heads change places by kv head."""

    class Normed(Decoder):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.RMSNorm(4)

        def rotated(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return self.scale(x)

    network = Normed()
    network.rotary = True
    within = trace_symmetry(network.double(), torch.randint(11, (2, 5))).within
    assert dict(within) == {"q.weight[1]": ("q.weight",), "v.weight": ("q.weight",)}
