"""The programs of one network, for inputs of one size and of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from rebasin_lt.errors import InputError
from rebasin_lt.feeding.form import Form
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.symmetry.export import Program, execute, export


class Programs:
    """The network as it was exported, and again for inputs of another size, when such a call comes.

    A program holds for every batch size. Other sizes, such as the length of a sequence, are numbers in it, unless they
    differ between calls: then it is exported anew, for any size if `torch.export` finds that it holds for any, else for
    this one. All programs compute the same operators in the same order, for units are observed by their place in it; a
    call for which the network does something else is refused. Slices of all there is do not count: `torch.export`
    leaves them out where the length is a number.
    """

    def __init__(self, model: nn.Module, first: Program) -> None:
        self._model = model
        self._all = [(first, _tensors(first))]
        self.form = Form.of(model).with_example(first.call.args, first.call.kwargs)

    @property
    def first(self) -> Program:
        """As it was exported for the example."""
        return self._all[0][0]

    def execute(self, states: Sequence[Mapping[str, Tensor]], call: ForwardCall) -> Iterator[tuple[str, list[Any]]]:
        """`execute` of a program for this call, in the first one's names. Raises InputError where there is none."""
        program, nodes = self._of(states, call)
        names = dict(zip((node.name for node in nodes), (node.name for node in self._all[0][1]), strict=True))
        for name, values in execute(program, states, call):
            if name in names:
                yield names[name], values

    def _of(self, states: Sequence[Mapping[str, Tensor]], call: ForwardCall) -> tuple[Program, list[fx.Node]]:
        for program, nodes in reversed(self._all):
            if program.fits(call) and _runs(program, states, call):
                return program, nodes
        first, wanted = self._all[0]
        program = export(self._model, call, first)
        if first.is_decomposed:
            program = program.decomposed()
        same = _alike(wanted, _tensors(program))
        if same is None:
            raise InputError(
                f"batches holds one of {call.described}, for which {type(self._model).__name__} computes other steps "
                f"than for {first.call.described}, on which it was traced: give batches of inputs of one size"
            )
        self._all.append((program, same))
        return program, same


def _runs(program: Program, states: Sequence[Mapping[str, Tensor]], call: ForwardCall) -> bool:
    """Whether it can be executed: a decomposed one may hold lengths that it does not tell."""
    sizes = tuple(tensor.shape for tensor in call.tensors)
    if program.is_decomposed and sizes not in program.tried:
        try:
            for _ in execute(program, states[:1], call):
                pass
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return False
        program.tried.add(sizes)
    return True


def _tensors(program: Program) -> list[fx.Node]:
    """The steps that compute tensors, in order; others compute sizes."""
    return [node for node in program.graph.nodes if node.op == "call_function" and not _is_size(node)]


def _alike(wanted: Sequence[fx.Node], found: Sequence[fx.Node]) -> list[fx.Node] | None:
    """Those of `found` that do what `wanted` do, one for each in order, but slices of all; None if others do not."""
    alike: list[fx.Node] = []
    for node in found:
        place = len(alike)
        if place < len(wanted) and _step(node) == _step(wanted[place]):
            alike.append(node)
        elif not _is_whole_slice(node):
            return None
    return alike if len(alike) == len(wanted) else None


def _step(node: fx.Node) -> tuple[Any, bool]:
    return node.target, _is_whole_slice(node)


def _is_whole_slice(node: fx.Node) -> bool:
    """True for a slice that keeps its tensor as it is."""
    if node.target is not torch.ops.aten.slice.Tensor:
        return False
    kept, whole = (value.meta["val"].shape for value in (node, node.all_input_nodes[0]))
    return len(node.args) < 5 and [str(size) for size in kept] == [str(size) for size in whole]


def _is_size(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return value is None or isinstance(value, int | float | bool | torch.SymInt | torch.SymFloat | torch.SymBool)
