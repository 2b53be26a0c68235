"""How much of the answer of each of several units counts for a sample: where that is nothing, it is not reached.

A mixture may compute all of its experts for every token and multiply what they answer by shares, which are 0 for those
that a router did not choose. Their hidden units do something there too, but nothing that the network was trained for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from rebasin_lt.symmetry.infer import Inference
from rebasin_lt.symmetry.layouts import Atom, atoms_of, resolve
from rebasin_lt.symmetry.nodes import plain_name, returned_tensors
from rebasin_lt.symmetry.routes import Reached
from rebasin_lt.symmetry.sibling_types import stacked
from rebasin_lt.symmetry.siblings import Family
from rebasin_lt.symmetry.tensor_type import TensorType

_PRODUCTS = ("mul", "mul_", "einsum", "bmm", "matmul", "baddbmm", "addcmul")


@dataclass(frozen=True)
class Shares:
    """The step that says how much of each outer unit's answer counts, or those of siblings, for each sample."""

    nodes: tuple[str, ...]
    dim: int  # along which the outer units lie; of siblings the first, as their results are stacked
    places: Tensor  # (outer units,), int64: where each of them lies there

    def reached(self, units: Tensor, values: Sequence[Tensor]) -> Reached:
        """What units did, of shape (..., units), on those samples of which their outer unit has a share."""
        share = (values[0] if len(values) == 1 else torch.stack(list(values))).movedim(self.dim, -1)
        share, outer = share[..., self.places.to(share.device)], len(self.places)
        rows = units.reshape(-1, outer, units.shape[-1] // outer)
        samples, chosen = (share.reshape(-1, outer) != 0).nonzero().unbind(1)
        return Reached(rows[samples, chosen], samples, chosen, units)


def shares_of(inference: Inference, family: Family, path: Sequence[Atom], used: Collection[int]) -> Shares | None:
    """What the units of a path are multiplied by, where labels of the outer ones say for which samples that is nothing.

    `used`: those dimensions of the step, of siblings stacked, along which no samples lie. None unless samples lie along
    the same dimensions of both.
    """
    if len(path) != 2:
        return None
    outer, inner = path
    samples = _lengths(family[0], [dim - (len(family) > 1) for dim in used])
    after = _after(inference, family[0], outer)
    for user in dict.fromkeys(user for step in after for user in step.users if plain_name(user) in _PRODUCTS):
        for source in (source for source in user.all_input_nodes if source not in after):
            found = _share(inference, source, outer, inner)
            if found is None or not _is_chosen(inference, source, outer):
                continue
            if _lengths(source, [] if len(found.nodes) > 1 else [found.dim]) == samples:
                return found
    return None


def _share(inference: Inference, node: fx.Node, outer: Atom, inner: Atom) -> Shares | None:
    """A tensor, or those of siblings, with one number for each outer unit; the inner ones have no part in it."""
    kind, siblings = inference.nodes.get(node), inference.siblings.units_of(node)
    if not isinstance(kind, TensorType) or inner in atoms_of(part.layout for part in kind.parts):
        return None
    nodes = tuple(member.name for member in inference.siblings.family_of(node))
    if siblings is not None:
        kind = stacked(kind, siblings)
    having = [part for part in kind.parts if outer in atoms_of([part.layout])]
    if len(having) != 1 or len(having[0].dims) != 1:
        return None
    (block, *others) = resolve(having[0].layout).blocks
    if others or block.atoms != (outer,) or block.positions.shape[-1] != 1:
        return None
    return Shares(nodes, having[0].dims[0], torch.from_numpy(block.positions[:, 0].copy()))


def _after(inference: Inference, node: fx.Node, outer: Atom) -> dict[fx.Node, None]:
    """The step and what comes of it, as long as the outer units are apart."""
    found: dict[fx.Node, None] = {}
    pending = [node]
    while pending:
        here = pending.pop()
        if here not in found and here in inference.nodes and _has(inference, here, outer):
            found[here] = None
            pending += here.users
    return found


def _is_chosen(inference: Inference, node: fx.Node, outer: Atom) -> bool:
    """Whether labels of the outer units have a part in this."""
    found, pending = set(), [node]
    while pending:
        here = pending.pop()
        if here in found or here not in inference.nodes:
            continue
        found.add(here)
        if _labelled(inference, here, outer):
            return True
        if _has(inference, here, outer):
            pending += here.all_input_nodes
    return False


def _has(inference: Inference, node: fx.Node, outer: Atom) -> bool:
    """Whether what a step returns lies apart for each outer unit."""
    kinds = inference.among_siblings(node)
    return outer in atoms_of(part.layout for kind in kinds for part in kind.parts)


def _labelled(inference: Inference, node: fx.Node, outer: Atom) -> bool:
    labels = [kind.labels for kind in inference.among_siblings(node)]
    return any(found is not None and outer in atoms_of([found.layout]) for found in labels)


def _lengths(node: fx.Node, but: Collection[int]) -> list[str]:
    """The sizes of a tensor's dimensions along which samples lie, in words, for some depend on the batch."""
    sizes = returned_tensors(node.meta.get("val"))[0].shape
    return [str(size) for dim, size in enumerate(sizes) if dim not in but and str(size) != "1"]
