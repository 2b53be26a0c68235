"""Units in each of which activations meet one another, as the queries of a head meet its keys: they are no experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from rebasin_lt.symmetry.infer import Inference
from rebasin_lt.symmetry.layouts import Atom, atoms_of
from rebasin_lt.symmetry.nodes import plain_name
from rebasin_lt.symmetry.operators.products import PRODUCTS
from rebasin_lt.symmetry.tensor_type import TensorType

_MATRICES = ("bmm", "matmul", "baddbmm")


def find_meetings(inference: Inference, groups: Mapping[Atom, str]) -> frozenset[str]:
    """The groups in each of whose units sums of products of activations with others of that unit are computed.

    An expert's activations meet weights alone until the router's shares come, and then experts are summed over.
    """
    found: set[Atom] = set()
    program = inference.program
    data: set[fx.Node] = set()  # what depends on the inputs of the network
    for node in program.graph.nodes:
        if node.op == "placeholder":
            data |= set() if node.name in program.state or node.name in program.constants else {node}
        elif not data.isdisjoint(node.all_input_nodes):
            data.add(node)
            if node in inference.nodes and _is_sum_of_products(node, inference):
                found |= _apart(inference, node, data)
    return frozenset(name for atom, name in groups.items() if atom in found)


def _is_sum_of_products(node: fx.Node, inference: Inference) -> bool:
    name = plain_name(node)
    if name == "einsum":
        inputs, _, output = str(node.args[0]).replace(" ", "").partition("->")
        return not set(inputs) - {","} <= set(output)
    if name in _MATRICES:
        left = inference.nodes.get(node.args[name == "baddbmm"])  # type: ignore[arg-type]
        return isinstance(left, TensorType) and left.shape[-1] > 1
    return "attention" in name and name in PRODUCTS


def _apart(inference: Inference, node: fx.Node, data: set[fx.Node]) -> set[Atom]:
    """The atoms whose units are apart in the result, and in two of the activations that it is made of."""
    factors = [_atoms(inference.nodes[source]) for source in node.all_input_nodes if source in data]
    return {atom for atom in _atoms(inference.nodes[node]) if sum(atom in factor for factor in factors) > 1}


def _atoms(kind: Any) -> set[Atom]:
    """The atoms of a tensor, or of the first one of several."""
    kind = kind[0] if isinstance(kind, tuple) else kind
    return set(atoms_of(part.layout for part in kind.parts)) if isinstance(kind, TensorType) else set()
