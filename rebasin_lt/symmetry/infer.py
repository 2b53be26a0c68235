"""Inference: walk a program operator by operator and let their rules unify the axes of its tensors."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from rebasin_lt.symmetry.call import Call, Rule, types_in
from rebasin_lt.symmetry.export import Program, written
from rebasin_lt.symmetry.layouts import Layout, atoms_of, fixed, free, resolve
from rebasin_lt.symmetry.meaning import Order, settle
from rebasin_lt.symmetry.nodes import LOOKING_UP, identity_of, number_of, overlapping, plain_name, shapes_of, steps_used
from rebasin_lt.symmetry.rules import MOVING, RULES, apply_rule, is_alike, rule_of
from rebasin_lt.symmetry.sibling_types import SiblingTypes, beside
from rebasin_lt.symmetry.siblings import Siblings
from rebasin_lt.symmetry.tensor_type import TensorType, broadcast

AN_INPUT = "an input of the network"
"""Why what a network is given stays."""
A_CONSTANT = "a constant"
"""Why what is the same for all inputs and weights stays, whatever operators it was made with."""


class Inference:
    """The types of everything in a program.

    `state`: of parameters and buffers by name. `nodes`: of the results of operators, tuples of them, or numbers.
    `reads`: (node, dimension) of tensors that weights sum over. `products`: nodes that are such sums. `unknown`: what
    could not be followed and took units of parameters, by operator, with the reason; all that it touched is fixed.
    `orders`: of rows in the order of labels. `siblings`: the axes along which steps that are alike change places.
    """

    def __init__(
        self,
        program: Program,
        tensors: Mapping[str, Tensor],
        rules: Mapping[str, Rule] | None = None,
        siblings: Sequence[Siblings] = (),
    ) -> None:
        """Type `program`; `tensors` holds the network's parameters and buffers, one object for tied ones."""
        self.program = program
        self.state: dict[str, TensorType] = {}
        self.nodes: dict[fx.Node, Any] = {}
        self.reads: list[tuple[fx.Node, int]] = []
        self.products: list[fx.Node] = []
        self.unknown: dict[str, str] = {}
        self.order: list[str] = []  # names of parameters and buffers, by first use
        self._rules = RULES if rules is None else rules
        self._data: set[fx.Node] = set()  # what depends on the inputs
        self._learned_from: set[fx.Node] = set()  # what depends on parameters
        self._tied: dict[Hashable, TensorType] = {}
        self._parameters = {name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter)}
        self.orders: list[Order] = []
        self._copies: list[Layout] = []
        self._written = written(program.graph)
        self._alike: set[fx.Node] = set()  # all of their elements are alike, so every use sees axes of its own
        self._argument_of: dict[int, fx.Node] = {}  # the arguments of the operator that is typed now, by id of the type
        self._moved: dict[fx.Node, list[str]] = {}  # buffers that were copied or viewed, but not used so far
        self.siblings = SiblingTypes(siblings)
        self._harmless: dict[str, str] = {}  # not followed, but no unit of a parameter was touched so far
        used = steps_used(program.graph)
        for node in program.graph.nodes:
            if node in used:  # what nobody reads asks nothing of its axes
                self._visit(node, tensors)
        for name in overlapping(tensors):
            if name in self.state:
                self.state[name].freeze("shares memory with another parameter")
        settle(self.orders, [part.layout for kind in self.state.values() for part in kind.parts])
        reasons = {resolve(part.layout).reason for kind in self._learned() for part in kind.parts}
        self.unknown |= {name: problem for name, problem in self._harmless.items() if problem in reasons}

    def _learned(self) -> list[TensorType]:
        """The types of parameters."""
        return [kind for name, kind in self.state.items() if name in self._parameters]

    def _give_up(self, node: fx.Node, call: Call, problem: str) -> str:
        """Fix all that an operator touches, and say why; note it where that takes units of parameters."""
        layouts = [part.layout for tensor in call.tensors for part in tensor.parts]
        layouts += [tensor.meaning.layout for tensor in call.tensors if tensor.meaning is not None]
        owned = set(atoms_of(part.layout for kind in self._learned() for part in kind.parts))
        touched = set(atoms_of(layouts))
        if node not in self._data and node not in self._learned_from and touched.isdisjoint(owned):
            problem = A_CONSTANT
        elif touched:
            (self._harmless if touched.isdisjoint(owned) else self.unknown).setdefault(call.name, problem)
        for tensor in call.tensors:
            tensor.freeze(problem)
        return problem

    def _visit(self, node: fx.Node, tensors: Mapping[str, Tensor]) -> None:
        for depending in (self._data, self._learned_from):
            if not depending.isdisjoint(node.all_input_nodes):
                depending.add(node)
        first = next((other for other in self.siblings.family_of(node) if other in self.nodes), None)
        if first is not None:
            self._as_sibling(node, first)
        elif node.op == "placeholder":
            self._placeholder(node, tensors)
        elif self.siblings.has_rule(node):
            self._note_use(node, None)
            self.nodes[node] = self.siblings.type_of(node, self._typed)
        elif node.op == "output":
            for argument in node.all_input_nodes:
                for tensor in types_in(self.nodes[argument]):
                    tensor.freeze("an output of the network")
        elif node.op == "get_attr":  # a branch of an operator that chooses between some
            self.nodes[node] = getattr(node.graph.owning_module, str(node.target), None)
        elif node.target is operator.getitem:
            (source,) = node.all_input_nodes
            self.nodes[node] = self.nodes[source][node.args[1]]
            if source in self._alike:
                self._note_alike(node)
        elif node.target is torch.ops.higher_order.cond:
            self._note_use(node, None)
            self._branches(node)
        else:
            self._operator(node)

    def among_siblings(self, node: fx.Node) -> list[TensorType]:
        """The types of what a step returns, with the axis of its units where it has siblings."""
        kinds, units = types_in(self.nodes[node]), self.siblings.units_of(node)
        return kinds if units is None else [beside(kind, units) for kind in kinds]

    def _as_sibling(self, node: fx.Node, first: fx.Node) -> None:
        """Give a step the type of its sibling, so that both agree in all their axes."""
        self.nodes[node] = self.nodes[first]
        if node.op == "placeholder":
            self.state[self.program.state[node.name]] = self.nodes[first]
            return
        self._note_use(node, rule_of(node.target, self._rules))
        if first in self._alike:
            self._note_alike(node)

    def _note_alike(self, node: fx.Node) -> None:
        """Let every use of a tensor whose elements are all alike see axes of its own, unless it is written to."""
        if node not in self._written:
            self._alike.add(node)

    def _note_use(self, node: fx.Node, rule: Rule | None) -> None:
        """Note parameters and buffers by first use; that of a buffer is not where it is only copied or viewed."""
        for argument in node.all_input_nodes:
            name = self.program.state.get(argument.name)
            for used in self._moved.get(argument, []) if name is None else [name]:
                if rule in MOVING and used not in self._parameters:
                    self._moved.setdefault(node, []).append(used)
                elif used not in self.order:
                    self.order.append(used)

    def _branches(self, node: fx.Node) -> None:
        """`torch.cond`: both branches are typed with the same operands, and what they return must agree."""
        condition, *branches, operands = (self._typed(value) for value in node.args)
        if isinstance(condition, TensorType):
            condition.freeze("a condition")
        reads, products = list(self.reads), list(self.products)
        results = [self._branch(branch.graph, operands) for branch in branches]
        self.reads, self.products = reads, products  # units are not observed within branches
        for ours, theirs in zip(*results, strict=True):
            broadcast([ours.meaning_as(None), theirs.meaning_as(None)], "cond")
            for tensor in (ours, theirs):
                if tensor.meaning is not None:
                    tensor.meaning.forget("numbers that name these units come from one of two branches")
        self.nodes[node] = tuple(results[0])

    def _branch(self, graph: fx.Graph, operands: list[Any]) -> list[TensorType]:
        """What a branch returns; its inputs are the operands."""
        given = iter(operands)
        for node in graph.nodes:
            if node.op == "placeholder":
                self.nodes[node] = next(given)
                self._data.add(node)
            elif node.op == "output":
                returned: list[TensorType] = types_in(self._typed(node.args[0]))
                return returned
            else:
                self._visit(node, {})
        raise AssertionError("a graph ends in its output")

    def _placeholder(self, node: fx.Node, tensors: Mapping[str, Tensor]) -> None:
        if node.name in self.program.state:
            name = self.program.state[node.name]
            tensor = tensors[name]
            self.state[name] = self._tied.setdefault(identity_of(tensor), TensorType.free(tensor.shape))
            self.nodes[node] = self.state[name]
            if name in self._parameters:
                self._learned_from.add(node)
        elif node.name in self.program.constants:
            constant = self.program.constants[node.name]
            self.nodes[node] = None
            if isinstance(constant, Tensor):
                self.nodes[node] = _constant(constant)
                if not constant.is_meta and bool((constant == constant.flatten()[:1]).all()):
                    self._note_alike(node)
        else:
            self._data.add(node)
            shapes = shapes_of(node)
            self.nodes[node] = TensorType.fixed(shapes[0], AN_INPUT) if shapes else number_of(node)

    def _operator(self, node: fx.Node) -> None:
        rule = rule_of(node.target, self._rules)
        self._note_use(node, rule)
        shapes = shapes_of(node)
        if not shapes:  # sizes, assertions
            self.nodes[node] = number_of(node)
            return
        self._argument_of.clear()
        call = Call(plain_name(node), self.arguments(node), shapes, orders=self.orders, copies=self._copies)
        call.masks = [tensor for tensor in call.tensors if self._is_mask(tensor)]
        result, problem = self._apply(rule, call)
        if problem:
            problem = self._give_up(node, call, problem)
            result = tuple(TensorType.fixed(shape, problem) for shape in shapes)
            result = result[0] if isinstance(node.meta["val"], Tensor) else result
        if isinstance(result, tuple):  # among the tensors there may be numbers and None
            types = iter(result)
            result = tuple(next(types) if isinstance(value, Tensor) else value for value in node.meta["val"])
        self.nodes[node] = result
        if not problem and is_alike(rule, [argument in self._alike for argument in node.all_input_nodes]):
            self._note_alike(node)
        self._note_reads(node, call)

    def _apply(self, rule: Rule | None, call: Call) -> tuple[Any, str]:
        """The result of the operator's rule, and the reason if it could not be applied."""
        if rule is None:
            return None, f"operator {call.name} has no rule"
        try:
            result = apply_rule(rule, call)
        except Exception as error:  # a use of the operator that the rule does not foresee: fixing its tensors is sound
            return None, f"operator {call.name} is not followed: {error or type(error).__name__}"
        shapes = [tensor.shape for tensor in types_in(result)]
        if shapes != call.shapes:
            return None, f"operator {call.name} is not followed: its rule gives {shapes} for {call.shapes}"
        return result, ""

    def _note_reads(self, node: fx.Node, call: Call) -> None:
        factors = {id(tensor) for tensor, _ in call.reads}
        sources = [(self._argument_of[id(tensor)], dim) for tensor, dim in call.reads]
        of_data = [(source, dim) for source, dim in sources if source in self._data]
        if len(of_data) == len(sources) and len(factors) > 1:  # of two activations, or one is of weights looked up
            of_data = [(source, dim) for source, dim in of_data if not self._is_looked_up(source)]
            if len(of_data) in (0, len(sources)):
                return  # a product of two activations is read by no weight
        if not sources:
            return
        self.products.append(node)
        self.reads += of_data

    def _is_looked_up(self, node: fx.Node) -> bool:
        """Whether these are weights, those of the unit that a label names, perhaps seen otherwise."""
        while rule_of(node.target, self._rules) in MOVING and len(node.all_input_nodes) == 1:
            (node,) = node.all_input_nodes
        if plain_name(node) not in LOOKING_UP or node.all_input_nodes[0] in self._data:
            return False
        given = [self.nodes[label] for label in node.all_input_nodes[1:]]
        return any(isinstance(kind, TensorType) and kind.labels is not None for kind in given)

    def _is_mask(self, tensor: TensorType) -> bool:
        value = self._argument_of[id(tensor)].meta.get("val")
        return isinstance(value, Tensor) and value.dtype == torch.bool

    def _typed(self, value: Any) -> Any:
        """A value with types in place of nodes; what is alike everywhere gets axes of its own at each use."""
        if isinstance(value, fx.Node):
            kind = self.nodes[value]
            if value in self._alike and isinstance(kind, TensorType):
                kind = TensorType.free(kind.shape)
                self._copies += kind.axes()
            self._argument_of[id(kind)] = value
            return kind
        if isinstance(value, list | tuple):
            return [self._typed(item) for item in value]
        return value

    def arguments(self, node: fx.Node) -> dict[str, Any]:
        """The operator's arguments by name, nodes replaced by their types."""
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            values = [*node.args, *node.kwargs.values()]
            return {str(i): self._typed(value) for i, value in enumerate(values)}
        arguments = {argument.name: argument.default_value for argument in schema.arguments}
        for argument, value in zip(schema.arguments, node.args, strict=False):
            arguments[argument.name] = self._typed(value)
        return {**arguments, **{name: self._typed(value) for name, value in node.kwargs.items()}}


def _constant(tensor: Tensor) -> TensorType:
    """A tensor that is not in the state dict: it stays as it is, so only axes along which it is uniform are free."""
    if tensor.is_meta or not tensor.numel():
        return TensorType.fixed(tensor.shape, A_CONSTANT)
    uniform = [bool((tensor == tensor.narrow(dim, 0, 1)).all()) for dim in range(tensor.ndim)]
    layouts = [
        free(size) if alike else fixed(size, A_CONSTANT) for size, alike in zip(tensor.shape, uniform, strict=True)
    ]
    return TensorType.of(layouts)
