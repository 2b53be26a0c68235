"""Units that look like experts and are none: heads, in each of which activations meet, and those read side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from rebasin_lt.symmetry.infer import Inference
from rebasin_lt.symmetry.layouts import Atom, atoms_of
from rebasin_lt.symmetry.nodes import plain_name
from rebasin_lt.symmetry.operators.products import PRODUCTS
from rebasin_lt.symmetry.tensor_type import TensorType

_MATRICES = ("bmm", "matmul", "baddbmm")


def find_meetings(inference: Inference, groups: Mapping[Atom, str]) -> frozenset[str]:
    """The groups in each of whose units products of all activations with all others of that unit are computed.

    An expert's activations meet weights alone until the router's shares come, and then experts are summed over.
    """
    found: set[Atom] = set()
    data = _of_inputs(inference)
    for node in inference.nodes:
        if node in data and node.op != "placeholder" and _is_product_over_pairs(node, inference):
            found |= _apart(inference, node, data)
    return frozenset(name for atom, name in groups.items() if atom in found)


def find_branches(
    inference: Inference, groups: Mapping[Atom, str], within: Mapping[str, tuple[str, ...]]
) -> frozenset[str]:
    """The groups around others whose units' answers a matrix sums over, with a column of its own for each of them.

    Of experts answers are summed as they are, or by weights that have the units inside of each expert.
    """
    found: set[str] = set()
    data = _of_inputs(inference)
    below: dict[fx.Node, set[str]] = {}  # step -> groups units inside of which it depends on
    for node, kind in inference.nodes.items():
        below[node] = {group for name in _names(kind, groups) for group in within.get(name, ())}
        below[node] |= {group for source in node.all_input_nodes for group in below.get(source, ())}
        if node not in data or plain_name(node) not in PRODUCTS:
            continue
        for weight in (source for source in node.all_input_nodes if source not in data and _is_matrix(source)):
            own = _names(inference.nodes.get(weight), groups)
            answers = [source for source in node.all_input_nodes if source in data]
            given = {group for source in answers for group in below[source] & _names(inference.nodes[source], groups)}
            deep = {group for name in own for group in within.get(name, ())}
            found |= (own & given) - deep - _names(kind, groups)
    return frozenset(found)


def _of_inputs(inference: Inference) -> set[fx.Node]:
    """What depends on the inputs of the network, and they themselves."""
    program = inference.program
    found: set[fx.Node] = set()
    for node in program.graph.nodes:
        if node.op == "placeholder":
            found |= set() if node.name in program.state or node.name in program.constants else {node}
        elif not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _is_matrix(node: fx.Node) -> bool:
    """Whether a tensor has a number for each of several results, not a share for each of its units alone."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and sum(size != 1 for size in value.shape) > 1


def _is_product_over_pairs(node: fx.Node, inference: Inference) -> bool:
    name = plain_name(node)
    if name == "einsum":
        inputs, _, output = str(node.args[0]).replace(" ", "").partition("->")
        return not set(inputs) - {","} <= set(output)
    if name.removesuffix("_") == "mul":
        return _is_every_pair(node)
    if name in _MATRICES:
        left = inference.nodes.get(node.args[name == "baddbmm"])  # type: ignore[arg-type]
        return isinstance(left, TensorType) and left.shape[-1] > 1
    return "attention" in name and name in PRODUCTS


def _is_every_pair(node: fx.Node) -> bool:
    """Whether each element of one factor meets several of the other and the other way round, as if by a matrix."""
    shapes = [getattr(factor.meta.get("val"), "shape", ()) for factor in node.args if isinstance(factor, fx.Node)]
    if len(shapes) < 2 or not all(shapes):
        return False
    sizes = list(zip(*(reversed(shape) for shape in shapes), strict=False))  # of the last dimension first
    return any(a == 1 and b != 1 for a, b in sizes) and any(a != 1 and b == 1 for a, b in sizes)


def _apart(inference: Inference, node: fx.Node, data: set[fx.Node]) -> set[Atom]:
    """The atoms whose units are apart in the result, and in two of the activations that it is made of."""
    factors = [_atoms(inference.nodes[source]) for source in node.all_input_nodes if source in data]
    return {atom for atom in _atoms(inference.nodes[node]) if sum(atom in factor for factor in factors) > 1}


def _names(kind: Any, groups: Mapping[Atom, str]) -> set[str]:
    return {groups[atom] for atom in _atoms(kind) if atom in groups}


def _atoms(kind: Any) -> set[Atom]:
    """The atoms of a tensor, or of the first one of several."""
    kind = kind[0] if isinstance(kind, tuple) and kind else kind
    return set(atoms_of(part.layout for part in kind.parts)) if isinstance(kind, TensorType) else set()
