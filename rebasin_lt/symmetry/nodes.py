"""The steps of a program: their names, what they return, and which tensors are one and the same."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from rebasin_lt.errors import SymmetryError
from rebasin_lt.symmetry.call import flat

LOOKING_UP = ("index", "_unsafe_index", "index_select", "embedding")
"""Operators that return positions of their first tensor, those that the numbers in another one name."""


def identity_of(tensor: Tensor) -> Hashable:
    """Equal for tensors that are one and the same in memory: tied weights, also those tied through `.data`."""
    if tensor.is_meta or not tensor.numel():
        return id(tensor)
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def overlapping(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that share memory with another one without being the same."""
    by_storage: dict[int, dict[Hashable, list[str]]] = {}
    for name, tensor in tensors.items():
        if not tensor.is_meta and tensor.numel():
            same = by_storage.setdefault(tensor.untyped_storage().data_ptr(), {})
            same.setdefault(identity_of(tensor), []).append(name)
    return [name for same in by_storage.values() if len(same) > 1 for names in same.values() for name in names]


def plain_name(node: fx.Node) -> str:
    """`conv2d` for ATen's, `namespace::name` for others, `getitem` for Python's."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return getattr(node.target, "__name__", str(node.target))
    return str(schema.name.removeprefix("aten::"))


def steps_used(graph: fx.Graph) -> set[fx.Node]:
    """The steps whose values are returned, or reach what is; of all others at most sizes or dtypes are looked at."""
    used: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if node.op in ("placeholder", "output") or (schema is not None and schema.is_mutable):
            used.add(node)
        if node in used and not plain_name(node).startswith("sym_"):
            used.update(node.all_input_nodes)
    return used


def shapes_of(node: fx.Node) -> list[tuple[int, ...]]:
    """The shapes of what a node returns, at the size of the example batch."""
    shapes = [tuple(map(hinted_size, tensor.shape)) for tensor in returned_tensors(node.meta.get("val"))]
    if any(size is None for shape in shapes for size in shape):
        frames = re.findall(r'File "(.+)", line (\d+)', node.meta.get("stack_trace") or "")
        where = f" at {frames[-1][0]}:{frames[-1][1]}" if frames else ""
        raise SymmetryError(
            f"the size of what {plain_name(node)} returns{where} depends on the data; "
            "trace a submodule without it, such as trace_symmetry(model.backbone, inputs)"
        )
    return shapes


def number_of(node: fx.Node) -> Any:
    value = node.meta.get("val")
    return hinted_size(value) if isinstance(value, int | torch.SymInt) else value


def hinted_size(size: int | torch.SymInt) -> Any:
    """A size for the example batch; None where it depends on the data."""
    if not isinstance(size, torch.SymInt):
        return int(size)
    hint: Any = size.node.hint if size.node.has_hint() else None
    return None if hint is None else int(hint)


def returned_tensors(value: Any) -> list[Tensor]:
    """The tensors of what a step returns, also in lists."""
    return [item for item in flat(value) if isinstance(item, Tensor)]
