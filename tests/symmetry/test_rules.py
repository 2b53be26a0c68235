"""Every operator's rule: its network keeps its function and its groups, and would not if the rule asked for nothing."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from operators import CASES, LAYERS, Branches
from torch import Tensor, nn

from rebasin_lt.errors import SymmetryError
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.symmetry.call import Call, Result
from rebasin_lt.symmetry.export import Program, export
from rebasin_lt.symmetry.rules import RULES, rule_of
from rebasin_lt.symmetry.tensor_type import TensorType
from rebasin_lt.symmetry.trace import Symmetry, read_symmetry

KINDS = {kind: [name for name in CASES if CASES[name].kind == kind] for kind in LAYERS}
SHARE = 8  # networks that are exported together
CHUNKS = [tuple(names[i : i + SHARE]) for names in KINDS.values() for i in range(0, len(names), SHARE)]
CHUNK_OF = {name: chunk for chunk in CHUNKS for name in chunk}
UNIFORM = [
    name for name in CASES if RULES[name].__name__ in {"uniform", "unset"}
]  # their rule asks nothing: all is alike
# one function is the rule of all of them, and one of them is tried each time
ALIKE = {name for name in CASES if name.startswith("fft_") and name != "fft_rfft2"}
HEADS = (8, 2, 4, 4)  # hidden units, heads, channels of queries and keys, channels of values
HALVES, PRODUCT = (4, 4), (8, 6)
# sizes of the groups, by first use, where they are not just all hidden units
GROUPS = {
    **dict.fromkeys(("split", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk"), HALVES),
    **dict.fromkeys(("mm", "matmul", "einsum", "addmm", "linear", "convolution", "t", "numpy_T"), PRODUCT),
    **{f"{name}{n}d": PRODUCT for name in ("conv", "conv_transpose") for n in (1, 2, 3)},
    **dict.fromkeys((name for name in CASES if "scaled_dot_product" in name), HEADS),
    **dict.fromkeys(("group_norm", "native_group_norm"), (2, 4)),
    **dict.fromkeys(("fill", "zero"), (2, 6)),
    **dict.fromkeys(("index", "index_select"), ()),  # what a table names stays where it is
    "arange": (),
    # rows that hidden units name have units of their own
    **dict.fromkeys(("_unsafe_index", "argmax", "argmin", "topk", "argsort", "bilinear", "_trilinear"), (8, 5)),
    **dict.fromkeys(("transformers::grouped_mm_fallback", "cdist"), PRODUCT),
    "_grouped_mm": (8, 8),
    **dict.fromkeys(("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only"), (5, 8)),
    "type_as": (8, 2),  # the other tensor is not used otherwise
    "expand": (8, 3),  # copies are alike, so they may change places in what reads them
    "expand_as": (8, 4),
    **dict.fromkeys(("repeat", "repeat_interleave"), (8, 2)),
    "slice": (3, 5),
    "narrow": (3, 5),
    "split_with_sizes": (5, 3),
    "glu": (4,),
    "pixel_shuffle": (2,),
    "embedding": (7, 8),
    **dict.fromkeys(("dot", "vdot"), (7,)),
}


@cache
def exported(names: tuple[str, ...]) -> tuple[nn.Module, Program, Tensor]:
    torch.manual_seed(0)
    network, x = Branches(names), torch.randn(LAYERS[CASES[names[0]].kind][1])
    return network, export(network, ForwardCall((x,))), x


@cache
def true_symmetry(names: tuple[str, ...]) -> Symmetry:
    network, program, _ = exported(names)
    return read_symmetry(program, network)


def asks_nothing(call: Call) -> Result:
    types = tuple(TensorType.free(shape) for shape in call.shapes)
    return types if len(types) > 1 else types[0]


def test_every_rule_has_a_network() -> None:
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize("names", CHUNKS, ids=", ".join)
def test_rules_keep_the_function(names: tuple[str, ...]) -> None:
    network, _, x = exported(names)
    assert true_symmetry(names).unknown == {}
    assert true_symmetry(names).verify(network, x) <= 1e-10


@pytest.mark.parametrize("name", CASES)
def test_rule_leaves_just_these_groups(name: str) -> None:
    """So no rule asks too much either."""
    groups = true_symmetry(CHUNK_OF[name]).groups
    sizes = [size for group, size in groups.items() if group.startswith(f"branches.of_{name}.")]
    assert tuple(sizes) == GROUPS.get(name, (8,))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in CASES if name not in UNIFORM],
)
def test_rule_that_asks_nothing_is_caught(name: str) -> None:
    network, program, x = exported(CHUNK_OF[name])
    symmetry = read_symmetry(program, network, {**RULES, name: asks_nothing})
    with pytest.raises(SymmetryError, match="a random permutation changes the outputs of Branches"):
        symmetry.verify(network, x)


@pytest.mark.parametrize("name", CASES)
def test_operator_would_have_no_such_rule_without_it(name: str) -> None:
    _, program, _ = exported(CHUNK_OF[name])
    targets = {node.target for node in program.graph.nodes if node.op == "call_function"}
    others = {other: rule for other, rule in RULES.items() if other != name}
    assert [target for target in targets if rule_of(target, RULES) is not rule_of(target, others)]
