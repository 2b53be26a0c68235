"""What is found in small networks: the exact groups, the axes they act on, and what stays, with the reason."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import networks as nets
import pytest
import torch
from networks import NETWORKS, inputs, traced
from torch import nn

import rebasin_lt.symmetry
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.symmetry.export import export
from rebasin_lt.symmetry.trace import infer_symmetry, read_symmetry, trace_symmetry

KERNEL = ("3 fixed", "3 fixed")
GROUPS_IN = ("a.weight × a.weight[1]", "2 fixed", *KERNEL)
HEADS = "{0} × {0}[1] + {0} × {0}[2] (2 copies)"  # values; queries and keys
PACKED, STACKED = HEADS.format("attend.in_proj_weight"), HEADS.format("qkv.weight")

STRUCTURES: dict[Callable[[], nn.Module], tuple[dict[str, int], dict[str, tuple[str, ...]]]] = {
    nets.concatenation: (
        {"a.weight": 4, "b.weight": 6},
        {"c.weight": ("3 fixed", "a.weight + b.weight", *KERNEL)},
    ),
    nets.depthwise: ({"a.weight": 6}, {"d.weight": ("a.weight", "1 fixed", *KERNEL)}),
    nets.grouped: (
        {"a.weight": 2, "a.weight[1]": 3, "g.weight": 2},
        {
            "a.weight": GROUPS_IN,
            "g.weight": ("a.weight × g.weight", "a.weight[1]", *KERNEL),
            "c.weight": ("3 fixed", "a.weight × g.weight", *KERNEL),
        },
    ),
    nets.squeeze_excitation: (
        {"a.weight": 6, "down.weight": 3},
        {
            "down.weight": ("down.weight", "a.weight"),
            "up.weight": ("a.weight", "down.weight"),
            "up.bias": ("a.weight",),
            "c.weight": ("3 fixed", "a.weight", *KERNEL),
        },
    ),
    nets.channel_shuffle: (
        {"a.weight": 4, "a.weight[1]": 4, "b.weight": 4},
        {
            "a.weight": ("a.weight + a.weight[1]", "2 fixed", *KERNEL),
            "b.weight": ("b.weight", "a.weight", *KERNEL),
            "c.weight": ("3 fixed", "a.weight[1] + b.weight", *KERNEL),
        },
    ),
    nets.norm_stream: (
        {"embed.weight": 6, "up.weight": 8},
        {
            "norm.weight": ("embed.weight",),
            "up.weight": ("up.weight", "embed.weight"),
            "down.weight": ("embed.weight", "up.weight"),
            "head.weight": ("3 fixed", "embed.weight"),
        },
    ),
    nets.attention: (
        {
            "embed.weight": 8,
            "attend.in_proj_weight": 2,
            "attend.in_proj_weight[1]": 4,
            "attend.in_proj_weight[2]": 4,
            "attend.out_proj.weight": 8,
        },
        {
            "attend.in_proj_weight": (PACKED, "embed.weight"),
            "attend.in_proj_bias": (PACKED,),
            "attend.out_proj.weight": (
                "attend.out_proj.weight",
                "attend.in_proj_weight × attend.in_proj_weight[1]",
            ),
        },
    ),
    nets.packed_attention: (
        {"embed.weight": 8, "qkv.weight": 2, "qkv.weight[1]": 4, "qkv.weight[2]": 4, "out.weight": 6},
        {"qkv.weight": (STACKED, "embed.weight"), "out.weight": ("out.weight", "qkv.weight × qkv.weight[1]")},
    ),
    nets.flattened: ({"a.weight": 6}, {"c.weight": ("3 fixed", "a.weight (16 copies)")}),
    nets.tied: (
        {"b.weight": 6},
        {"a.weight": ("b.weight", "5 fixed"), "b.weight": ("b.weight", "5 fixed"), "a.bias": ("b.weight",)},
    ),
    nets.recurrent: ({"a.weight": 6}, {"again.weight": ("a.weight", "a.weight"), "c.weight": ("3 fixed", "a.weight")}),
    nets.transposed: (
        {"a.weight": 2, "a.weight[1]": 3, "t.weight": 2},
        {
            "t.weight": ("a.weight × a.weight[1]", "t.weight", "2 fixed", "2 fixed"),
            "t.bias": ("a.weight × t.weight",),
            "c.weight": ("3 fixed", "a.weight × t.weight", *KERNEL),
        },
    ),
    nets.normalised_groups: (
        {"a.weight": 2, "a.weight[1]": 3},
        {"a.weight": GROUPS_IN, "norm.weight": GROUPS_IN[:1], "norm.bias": GROUPS_IN[:1]},
    ),
    nets.slopes: ({"a.weight": 6}, {"each.weight": ("a.weight",), "one.weight": ("1 fixed",)}),
    nets.gated: (
        {"a.weight": 4},
        {"a.weight": ("a.weight (2 copies)", "2 fixed", *KERNEL), "c.weight": ("3 fixed", "a.weight", *KERNEL)},
    ),
    nets.shuffled_pixels: (
        {"a.weight": 3},
        {"a.weight": ("a.weight (4 copies)", "2 fixed", *KERNEL), "c.weight": ("3 fixed", "a.weight", *KERNEL)},
    ),
    nets.einsums: ({"a": 2, "a[1]": 4}, {"a": ("5 fixed", "a", "a[1]"), "c": ("a", "a[1]", "3 fixed")}),
    nets.lookup: ({"rows.weight": 6}, {"rows.weight": ("7 fixed", "rows.weight")}),
    nets.padded_channels: (
        {"a.weight": 4},
        {
            "b.weight": ("a.weight + 4 fixed", "2 fixed", *KERNEL),
            "c.weight": ("3 fixed", "a.weight + 4 fixed", *KERNEL),
        },
    ),
    nets.without_rule: (
        {"b.weight": 4},
        {"a.weight": ("6 fixed", "2 fixed", *KERNEL), "b.weight": ("b.weight", "6 fixed", *KERNEL)},
    ),
    nets.in_place: ({"a.weight": 6}, {"b.weight": ("3 fixed", "a.weight", *KERNEL)}),
}


def named(build: Callable[[], nn.Module]) -> str:
    return build.__name__


def test_every_small_network_has_its_structure_here() -> None:
    assert STRUCTURES.keys() == NETWORKS.keys()


@pytest.mark.parametrize("build", STRUCTURES, ids=named)
def test_groups_and_axes_are_just_these(build: Callable[[], nn.Module]) -> None:
    _, symmetry = traced(build)
    groups, axes = STRUCTURES[build]
    assert dict(symmetry.groups) == groups
    assert {name: tuple(map(str, symmetry.axes[name])) for name in axes} == axes
    assert symmetry.error is not None
    assert symmetry.error <= 1e-10


@pytest.mark.parametrize("build", STRUCTURES, ids=named)
def test_decomposed_graph_has_the_same_groups(build: Callable[[], nn.Module]) -> None:
    """Compound operators are expressed by simpler ones where one of them is unknown."""
    network, symmetry = traced(build)
    program = export(network, ForwardCall((inputs(build),))).decomposed()
    decomposed = read_symmetry(program, network)
    assert decomposed.groups == symmetry.groups
    assert {name: list(map(str, axes)) for name, axes in decomposed.axes.items()} == {
        name: list(map(str, axes)) for name, axes in symmetry.axes.items()
    }


@pytest.mark.parametrize("build", STRUCTURES, ids=named)
def test_outputs_stay_for_every_batch_size(build: Callable[[], nn.Module]) -> None:
    network, symmetry = traced(build)
    permuted = copy.deepcopy(network)
    permuted.load_state_dict(symmetry.permute(network.state_dict(), symmetry.random(torch.Generator().manual_seed(3))))
    for batch in (1, 2, 7):
        x = inputs(build, batch)
        torch.testing.assert_close(permuted(x.clone()), network(x.clone()), rtol=1e-10, atol=1e-12)


def test_positions_of_flattened_channels_are_theirs() -> None:
    _, symmetry = traced(nets.flattened)
    (block,) = symmetry.axes["c.weight"][1].blocks
    assert torch.equal(block.positions, torch.arange(6 * 16).view(6, 16))


def test_positions_of_shuffled_channels_interleave() -> None:
    _, symmetry = traced(nets.channel_shuffle)
    kept, made = (block.positions.flatten().tolist() for block in symmetry.axes["c.weight"][1].blocks)
    # taken from the first half of `a`, and made by `b`
    assert dict(zip(symmetry.axes["c.weight"][1].groups, (kept, made), strict=True)) == {
        "a.weight[1]": [0, 2, 4, 6],
        "b.weight": [1, 3, 5, 7],
    }


def test_operator_without_a_rule_fixes_what_it_touches_and_is_named() -> None:
    _, symmetry = traced(nets.without_rule)
    assert dict(symmetry.unknown) == {"linalg_matrix_exp": "operator linalg_matrix_exp has no rule"}
    because = {(name, axis): (units, reason) for name, axis, units, reason in symmetry.frozen}
    assert because["a.weight", 0] == because["b.weight", 1] == (6, "operator linalg_matrix_exp has no rule")
    assert because["a.weight", 1] == (2, "an input of the network")
    assert because["c.weight", 0] == (3, "an output of the network")
    assert because["a.weight", 2] == (3, "kernel positions of a convolution")


def test_coverage_is_the_share_of_elements_that_some_group_moves() -> None:
    _, symmetry = traced(nets.flattened)
    assert symmetry.coverage == pytest.approx((6 * 2 * 9 + 3 * 6 * 16) / (6 * 2 * 9 + 3 * 6 * 16 + 3))


def test_units_of_a_buffer_stay_and_say_so() -> None:
    network = nets.Net(lambda net, x: x @ net.table @ net.c, c=nets.weight(6, 3))
    network.register_buffer("table", torch.randn(5, 6))
    symmetry = trace_symmetry(network, torch.randn(2, 5))
    assert dict(symmetry.groups) == {}
    assert ("c", 0, 6, "the order is given by the buffer table") in symmetry.frozen


def test_parameter_that_is_not_used_stays() -> None:
    network = nets.Net(lambda net, x: net.c(net.a(x)), a=nn.Linear(5, 6), c=nn.Linear(6, 3), spare=nets.weight(4))
    symmetry = trace_symmetry(network, torch.randn(2, 5))
    assert ("spare", 0, 4, "not used in evaluation mode") in symmetry.frozen


def test_repeating_padding_fixes_channels_but_not_those_beside_it() -> None:
    network = nets.Net(
        lambda net, x: net.c(nn.functional.pad(net.a(x), (1, 1, 1, 1), mode="reflect")),
        a=nets.conv(2, 6),
        c=nets.conv(6, 3),
    )
    assert dict(trace_symmetry(network, torch.randn(2, 2, 4, 4)).groups) == {"a.weight": 6}


def test_several_inputs_and_outputs() -> None:
    network = nets.Net(
        lambda net, x, y: {"sum": net.c(net.a(x) + net.b(y)), "rest": [net.a(x).sum(1), 3]},
        a=nn.Linear(5, 6),
        b=nn.Linear(4, 6),
        c=nn.Linear(6, 3),
    )
    symmetry = trace_symmetry(network, (torch.randn(2, 5), torch.randn(2, 4)))
    assert dict(symmetry.groups) == {"a.weight": 6}


@pytest.mark.parametrize("batch", [1, 2])
def test_example_of_one_image_shows_the_batch(batch: int) -> None:
    torch.manual_seed(0)
    network = nets.flattened()
    assert infer_symmetry(network, torch.randn(batch, 2, 4, 4)).groups == traced(nets.flattened)[1].groups


def test_no_architecture_is_named() -> None:
    text = "".join(path.read_text() for path in Path(rebasin_lt.symmetry.__path__[0]).glob("*.py")).lower()
    names = ("resnet", "vgg", "mlp", "swin", "vit", "densenet", "convnext", "mobilenet", "efficientnet", "shufflenet")
    assert [name for name in names if name in text] == []
