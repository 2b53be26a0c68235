"""A network as a graph of ATen operators over named tensors."""

from __future__ import annotations

import inspect
import io
import linecache
import logging
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_leaves, tree_map

from rebasin_lt.errors import InputError, SymmetryError
from rebasin_lt.models.evaluation_mode import evaluation_mode
from rebasin_lt.precision import exportable

_TORCH = os.path.dirname(torch.__file__)


@dataclass(frozen=True)
class Program:
    """An exported network in eval mode, for any batch size."""

    exported: ExportedProgram
    state: dict[str, str]  # placeholder -> name of the parameter or buffer in the state dict
    constants: dict[str, Tensor]  # placeholder -> tensor that is not in the state dict
    inputs: tuple[str, ...]  # placeholders of the arguments, in order

    @property
    def graph(self) -> fx.Graph:
        """Its operators, in an order in which they can be executed."""
        graph: fx.Graph = self.exported.graph
        return graph

    def decomposed(self) -> Program:
        """The same program in PyTorch's core operators, of which there are fewer."""
        with _quietly(), torch.no_grad(), exportable():
            return _program(self.exported.run_decompositions())


def example_arguments(example_inputs: Tensor | tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of an example call; one example becomes two, for one alone would not show the batch.

    Raises InputError for anything but a tensor or a tuple.
    """
    arguments = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    tensors = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]
    if not isinstance(arguments, tuple) or not tensors:
        raise InputError(
            f"example_inputs is a {type(example_inputs).__name__}, "
            "expected a tensor or a tuple of the model's arguments"
        )
    if any(tensor.shape[:1] != (1,) for tensor in tensors):
        return arguments
    doubled: tuple[Any, ...] = tree_map(
        lambda leaf: torch.cat([leaf, leaf]) if isinstance(leaf, Tensor) else leaf, arguments
    )
    return doubled


def export(model: nn.Module, arguments: tuple[Any, ...]) -> Program:
    """Export `model` in eval mode, its mode and tensors left as they are.

    Raises SymmetryError, naming the line, for what `torch.export` cannot follow.
    """
    with evaluation_mode(model), torch.no_grad(), _quietly(), exportable():
        try:
            bound = inspect.signature(model.forward).bind(*arguments).arguments  # `*inputs` is one of them, a tuple
            shapes = tree_map(_any_batch_size, tuple(bound.values()))
            exported = torch.export.export(model, arguments, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            raise SymmetryError(_explain(model, error)) from error
    return _program(exported)


def _any_batch_size(argument: Any) -> Any:
    return {0: Dim.AUTO} if isinstance(argument, Tensor) and argument.ndim else None


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's warnings and dumps of graphs: what matters is in the error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _program(exported: ExportedProgram) -> Program:
    state, constants, inputs = {}, {}, []
    for spec in exported.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            inputs.append(spec.arg.name)
        elif spec.kind == InputKind.PARAMETER or (spec.kind == InputKind.BUFFER and spec.persistent):
            state[spec.arg.name] = str(spec.target)
        else:
            constants[spec.arg.name] = exported.constants[str(spec.target)]
    return Program(exported, state, constants, tuple(inputs))


def _explain(model: nn.Module, error: Exception) -> str:
    """One line: what cannot be traced, where, why, and what to do."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not os.path.abspath(frame.filename).startswith((_TORCH, os.path.abspath(__file__)))
        and "<" not in frame.filename
    ]
    where = ""
    if frames:
        line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()
        where = f" at {frames[-1].filename}:{frames[-1].lineno} ({line})"
    why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"{type(model).__name__} cannot be traced{where}: {why}; "
        "trace a submodule without control flow that depends on data, such as trace_symmetry(model.backbone, inputs)"
    )


def execute(
    program: Program, states: Sequence[Mapping[str, Tensor]], inputs: tuple[Any, ...]
) -> Iterator[tuple[str, list[Any]]]:
    """Run the program on the same inputs under each of several states, in step.

    Yields the name and the values (one per state) of every operator, in order; values that are not needed any more are
    let go. Gradients are not recorded. `inputs` and states must be on one device, which need not be the traced one.
    Raises InputError for integers where the program was traced on floating point, and the other way round.

    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    >>> states = [{"0.weight": torch.eye(2)}, {"0.weight": -torch.eye(2)}]
    >>> inputs = (torch.tensor([[1.0, -2.0]]),)
    >>> for name, values in execute(export(network, inputs), states, inputs):
    ...     print(name, *(value.tolist() for value in values))
    linear [[1.0, -2.0]] [[-1.0, 2.0]]
    relu [[1.0, 0.0]] [[0.0, 2.0]]
    """
    device = next(value.device for value in tree_leaves(inputs) if isinstance(value, Tensor))
    constants = {name: tensor.to(device) for name, tensor in program.constants.items()}
    given = dict(zip(program.inputs, tree_leaves(inputs), strict=True))
    values: dict[fx.Node, list[Any]] = {}
    last_use = {argument: node for node in program.graph.nodes for argument in node.all_input_nodes}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name in program.state:
                values[node] = [state[program.state[node.name]] for state in states]
            else:
                value = constants.get(node.name, given.get(node.name))
                _check_kind(value, node.meta.get("val"))
                # a copy for each: the network may work in place on what it is given
                values[node] = [value.clone() if isinstance(value, Tensor) else value for _ in states]
        elif node.op == "get_attr":
            values[node] = [getattr(program.exported.graph_module, str(node.target))] * len(states)
        elif node.op == "call_function" and node.meta.get("val") is not None:  # the rest are assertions
            yield node.name, _call(node, values, device, len(states))
        elif node.op == "call_function":
            values[node] = [None] * len(states)
        for argument in node.all_input_nodes:
            if last_use[argument] is node:
                values.pop(argument, None)


def _check_kind(value: Any, traced: Any) -> None:
    """Raise InputError if one is floating point and the other is not; how precise it is, does not matter."""
    tensors = isinstance(value, Tensor) and isinstance(traced, Tensor)
    if tensors and value.is_floating_point() != traced.is_floating_point():
        raise InputError(
            f"inputs are {value.dtype}, but the network was traced on {traced.dtype}: give them as it was trained on "
            "them"
        )


def _call(node: fx.Node, values: dict[fx.Node, list[Any]], device: torch.device, count: int) -> list[Any]:
    results = []
    with torch.no_grad():
        for i in range(count):
            own = {argument: values[argument][i] for argument in node.all_input_nodes}
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), own.__getitem__)
            if kwargs.get("device") is not None:
                kwargs = {**kwargs, "device": device}
            results.append(node.target(*args, **kwargs))  # type: ignore[operator]
    values[node] = results
    return results
