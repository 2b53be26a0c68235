"""A network as a graph of ATen operators over named tensors."""

from __future__ import annotations

import inspect
import io
import logging
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_leaves, tree_map

from rebasin_lt.errors import InputError, SymmetryError
from rebasin_lt.feeding.answer import tensors_of_answer
from rebasin_lt.feeding.form import Form
from rebasin_lt.feeding.forward_call import ForwardCall, input_tensors
from rebasin_lt.models.evaluation_mode import evaluation_mode
from rebasin_lt.precision import exportable
from rebasin_lt.symmetry.advice import Failure, explain

_RECURRENT = {"aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"}


@dataclass(frozen=True)
class Program:
    """An exported network in eval mode, for any batch size."""

    exported: ExportedProgram
    state: dict[str, str]  # placeholder -> name of the parameter or buffer in the state dict
    constants: dict[str, Tensor]  # placeholder -> tensor that is not in the state dict
    inputs: tuple[str, ...]  # placeholders of the arguments, in order
    call: ForwardCall  # that it was exported for
    is_decomposed: bool = False
    tried: set[tuple[torch.Size, ...]] = field(default_factory=set)  # sizes for which a decomposed one has run

    @cached_property
    def sizes(self) -> list[tuple[int | None, ...]]:
        """The shape of every input, None for a dimension of any size; of what is no tensor, nothing."""
        found = {node.name: node.meta.get("val") for node in self.graph.nodes if node.op == "placeholder"}
        return [_shape_of(found.get(name)) for name in self.inputs]

    def fits(self, call: ForwardCall) -> bool:
        """True if it can be executed for this call."""
        leaves = tree_leaves((call.args, call.kwargs))
        return len(leaves) == len(self.sizes) and all(
            not isinstance(leaf, Tensor)
            or (
                len(leaf.shape) == len(sizes)
                and all(ours in (None, theirs) for ours, theirs in zip(sizes, leaf.shape, strict=True))
            )
            for leaf, sizes in zip(leaves, self.sizes, strict=True)
        )

    @property
    def graph(self) -> fx.Graph:
        """Its operators, in an order in which they can be executed."""
        graph: fx.Graph = self.exported.graph
        return graph

    def decomposed(self) -> Program:
        """The same program in PyTorch's core operators, of which there are fewer."""
        with _quietly(), torch.no_grad(), exportable():
            return replace(_program(self.exported.run_decompositions(), self.call), is_decomposed=True)


def example_call(
    model: nn.Module, example_inputs: Any = None, example_kwargs: Mapping[str, Any] | None = None
) -> ForwardCall:
    """The example call of a model; one example becomes two, for one alone would not show the batch.

    `example_inputs`: a tensor, a tuple of arguments, or a dict by their names; without any, the model's own
    `example_input_array`. Raises InputError for anything else, and for arguments that the model does not take.
    """
    if not isinstance(example_kwargs, Mapping | None):
        raise InputError(
            f"example_kwargs is a {type(example_kwargs).__name__}, expected a dict of arguments by name; several "
            "inputs are one tuple: example_inputs=(first, second)"
        )
    form, named = Form.of(model), dict(example_kwargs or {})
    if example_inputs is None and not named:
        example_inputs = getattr(model, "example_input_array", None)
    args: tuple[Any, ...] = () if example_inputs is None else (example_inputs,)
    kwargs: dict[str, Any] = {}
    if isinstance(example_inputs, tuple):
        args = example_inputs
    elif isinstance(example_inputs, Mapping) and form.names_all(example_inputs):
        args, kwargs = (), dict(example_inputs)
    tensors = list(input_tensors((args, kwargs | named)))
    if not tensors or not isinstance(example_inputs, Tensor | tuple | Mapping | None):
        raise InputError(
            f"example_inputs is a {type(example_inputs).__name__}, expected a tensor, a tuple of the model's arguments "
            "or a dict by their names"
        )
    bound = form.bind(args, kwargs | named)
    call = ForwardCall(bound.args, bound.kwargs)
    if any(tensor.shape[:1] != (1,) for tensor in tensors):
        return call
    return call.laid_out(lambda tensor: torch.cat([tensor, tensor]))


def export(model: nn.Module, call: ForwardCall, other: Program | None = None) -> Program:
    """Export `model` in eval mode, its mode and tensors left as they are, for any batch size.

    With an `other` program of the same model, for any size also of those dimensions in which it differs from `call`.
    Raises SymmetryError, naming the line, for what `torch.export` cannot follow.
    """
    with evaluation_mode(model), torch.no_grad(), _quietly(), exportable(), _tensors_alone(model):
        try:
            bound = inspect.signature(model.forward).bind(*call.args, **call.kwargs).arguments
            known = iter([] if other is None else other.sizes)
            shapes = tree_map(lambda leaf: _sizes(leaf, next(known, ())), tuple(bound.values()))
            exported = torch.export.export(model, call.args, call.kwargs, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            given = inspect.signature(model.forward).bind_partial(*call.args, **call.kwargs).arguments
            raise SymmetryError(explain(Failure(model, given, error))) from error
        finally:
            _let_go(model)
    program = _program(exported, call)
    if other is None:
        _check_batch_first(model, program)
    return program


def _check_batch_first(model: nn.Module, program: Program) -> None:
    """Raise InputError if a recurrence goes along the examples of a batch: then the example has the sequence first."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None or schema.name not in _RECURRENT or [a.name for a in schema.arguments][-1] != "batch_first":
            continue
        sequence = node.args[0].meta["val"]
        if not node.args[-1] and sequence.ndim == 3 and not isinstance(sequence.shape[0], int):
            raise InputError(
                f"example_inputs has the sequence first, for {type(model).__name__} has a recurrence without "
                "batch_first, expected the batch first: make it with batch_first=True, or transpose in its forward"
            )


def _let_go(model: nn.Module) -> None:
    """Let modules that keep tensors in evaluation mode forget those of the export, which hold no numbers."""
    for module in model.modules():
        kept = [value for name, value in vars(module).items() if name not in {"_parameters", "_buffers", "_modules"}]
        if any(isinstance(leaf, FakeTensor) for leaf in tree_leaves(kept)):
            modes = [(inner, inner.training) for inner in module.modules()]
            module.train().eval()
            for inner, mode in modes:
                inner.training = mode


def _sizes(argument: Any, other: Sequence[int | None]) -> Any:
    """Which dimensions may be of any size: the first, and those that are of another size in `other`."""
    if not isinstance(argument, Tensor) or not argument.ndim:
        return None
    varies = {dim for dim, size in enumerate(other[1:], start=1) if size != argument.shape[dim]}
    return dict.fromkeys({0, *varies}, Dim.AUTO)


@contextmanager
def _tensors_alone(model: nn.Module) -> Iterator[None]:
    """Let the model answer with the tensors in its answer alone: caches and the like are no part of what is traced."""
    forward = model.forward

    @wraps(forward)
    def tensors(*args: Any, **kwargs: Any) -> Any:
        answer = forward(*args, **kwargs)
        return answer if isinstance(answer, Tensor) else tuple(tensors_of_answer(answer))

    own = vars(model).get("forward")
    model.forward = tensors
    try:
        yield
    finally:
        if own is None:
            del model.forward
        else:
            model.forward = own


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


def _program(exported: ExportedProgram, call: ForwardCall) -> Program:
    state, constants, inputs = {}, {}, []
    for spec in exported.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            inputs.append(spec.arg.name)
        elif spec.kind == InputKind.PARAMETER or (spec.kind == InputKind.BUFFER and spec.persistent):
            state[spec.arg.name] = str(spec.target)
        else:
            constants[spec.arg.name] = exported.constants[str(spec.target)]
    return Program(exported, state, constants, tuple(inputs), call)


def written(graph: fx.Graph) -> set[fx.Node]:
    """What operators write into, and what that is a view of."""
    pending: list[Any] = []
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        arguments = zip(() if schema is None else schema.arguments, node.args, strict=False)
        pending += [value for argument, value in arguments if argument.alias_info and argument.alias_info.is_write]
    found: set[fx.Node] = set()
    while pending:
        node = pending.pop()
        if not isinstance(node, fx.Node) or node in found:
            continue
        found.add(node)
        schema = getattr(node.target, "_schema", None)
        arguments = zip([] if schema is None else schema.arguments, node.args, strict=False)
        pending += [value for argument, value in arguments if argument.alias_info]
        pending += node.all_input_nodes if node.target is operator.getitem else []
    return found


def _shape_of(value: Any) -> tuple[int | None, ...]:
    shape = value.shape if isinstance(value, Tensor) else ()
    return tuple(size if isinstance(size, int) else None for size in shape)


def execute(
    program: Program, states: Sequence[Mapping[str, Tensor]], call: ForwardCall
) -> Iterator[tuple[str, list[Any]]]:
    """Run the program on the same inputs under each of several states, in step.

    Yields the name and the values (one per state) of every operator, in order; values that are not needed any more are
    let go. Gradients are not recorded. The call and the states must be on one device, which need not be the traced one.
    Raises InputError for integers where the program was traced on floating point, and the other way round.

    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU())
    >>> states = [{"0.weight": torch.eye(2)}, {"0.weight": -torch.eye(2)}]
    >>> call = ForwardCall((torch.tensor([[1.0, -2.0]]),))
    >>> for name, values in execute(export(network, call), states, call):
    ...     print(name, *(value.tolist() for value in values))
    linear [[1.0, -2.0]] [[-1.0, 2.0]]
    relu [[1.0, 0.0]] [[0.0, 2.0]]
    """
    device = call.tensors[0].device
    constants = {name: tensor.to(device) for name, tensor in program.constants.items()}
    given = dict(zip(program.inputs, tree_leaves((call.args, call.kwargs)), strict=True))
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
