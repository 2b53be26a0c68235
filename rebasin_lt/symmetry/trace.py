"""The permutation symmetry of a network, found by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn

from rebasin_lt.batches import Network, network_of
from rebasin_lt.errors import InputError
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.settings.generators import check_generator
from rebasin_lt.symmetry.advice import first_line
from rebasin_lt.symmetry.axis_type import AxisType, permute_tensor
from rebasin_lt.symmetry.call import Rule
from rebasin_lt.symmetry.export import Program, example_call, export
from rebasin_lt.symmetry.groups import (
    Frozen,
    axis_type_of,
    coverage_of,
    fix_what_buffers_define,
    frozen_axes,
    name_groups,
)
from rebasin_lt.symmetry.infer import Inference
from rebasin_lt.symmetry.meetings import find_branches, find_meetings
from rebasin_lt.symmetry.nesting import find_nesting
from rebasin_lt.symmetry.nodes import identity_of
from rebasin_lt.symmetry.observation import Observation, Visit, find_observations, visit_observed
from rebasin_lt.symmetry.permutation import Permutation, fitting
from rebasin_lt.symmetry.programs import Programs
from rebasin_lt.symmetry.siblings import find_siblings
from rebasin_lt.symmetry.stacks import free_stacks, permute_members, stack_name, stacked_axes
from rebasin_lt.symmetry.verification import checked_error, tensors_of

Example = Tensor | tuple[Any, ...] | Mapping[str, Any]


class Symmetry:
    """The groups of units that may be permuted without changing what a network computes, and where they act.

    `groups`: name -> number of units; a group is named by the parameter whose output it first is, with `[1]`,
    `[2]`, ... for further groups of that parameter. `within`: nested group -> those around it, from the outermost on:
    it may be permuted differently in each of their units. `meetings`: groups like heads, in each of which activations
    meet. `branches`: those whose answers the next layer reads, each by its own column. `axes`: name of a parameter or
    buffer -> `AxisType` per dimension. `parameters`: names that are parameters, not buffers. `stacks`: name -> names of
    tensors that change places as wholes, like those of listed experts. `places`: `axes` with stacks in place of their
    members, the axis along which these change places being the first. `frozen`: what stays, and why. `unknown`:
    operators not followed, with the reason. `coverage`: fraction of the parameters' elements that some group moves.
    `form`: the arguments that it was traced with. `observations`: group -> `Observation`s, as executed. `error`: the
    relative error measured when it was traced, None without, and `checked_in`: the dtype of that.

        >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> symmetry = rb.trace_symmetry(network, torch.zeros(2, 3))
        >>> dict(symmetry.groups), sorted(symmetry.permute(network, symmetry.random()))
        ({'0.weight': 4}, ['0.bias', '0.weight', '2.bias', '2.weight'])
    """

    def __init__(self, programs: Programs, inference: Inference, tensors: Mapping[str, Tensor]) -> None:
        """Read the groups off an inference; `tensors` holds every parameter and buffer of the state dict."""
        self._programs = programs
        self.form = programs.form
        used = {identity_of(tensors[name]): kind for name, kind in inference.state.items() if name in inference.order}
        same = {name: used.get(identity_of(tensor)) for name, tensor in tensors.items()}
        layouts = {name: [] if kind is None else kind.axes() for name, kind in same.items()}
        units = {
            tuple(names): inference.siblings.units[group]
            for group in inference.siblings.units
            for names in group.tensors(programs.first)
        }
        shown = {**layouts, **{name: [axis, *layouts[name]] for names, axis in units.items() for name in names}}
        fix_what_buffers_define(inference.order, shown, tensors)
        groups = name_groups([*inference.order, *tensors], shown)
        self.groups: Mapping[str, int] = MappingProxyType({name: atom.size for atom, name in groups.items()})
        self.axes: Mapping[str, tuple[AxisType, ...]] = MappingProxyType({
            name: tuple(axis_type_of(layout, groups) for layout in layouts[name])
            or tuple(AxisType(size) for size in tensor.shape)
            for name, tensor in tensors.items()
        })
        self.stacks: Mapping[str, tuple[str, ...]] = MappingProxyType({stack_name(names): names for names in units})
        along = {stack_name(names): axis_type_of(axis, groups) for names, axis in units.items()}
        self.places: Mapping[str, tuple[AxisType, ...]] = MappingProxyType(stacked_axes(self.axes, self.stacks, along))
        self.parameters = frozenset(name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter))
        self.frozen: tuple[Frozen, ...] = tuple(frozen_axes(self.axes, layouts))
        self.unknown: Mapping[str, str] = MappingProxyType(dict(inference.unknown))
        self.coverage = coverage_of({name: axes for name, axes in self.axes.items() if name in self.parameters})
        self.within: Mapping[str, tuple[str, ...]] = MappingProxyType(find_nesting(inference, groups))
        observed = find_observations(inference, groups, self.within)
        self.observations: Mapping[str, tuple[Observation, ...]] = MappingProxyType(observed)
        self.meetings, self.branches = find_meetings(inference, groups), find_branches(inference, groups, self.within)
        self._stack_of = {name: stack for stack, names in self.stacks.items() for name in names}
        self.error: float | None = None
        self.checked_in = ""

    @property
    def graph(self) -> fx.Graph:
        """The operators of the network, as it was traced."""
        return self._programs.first.graph

    @property
    def inputs(self) -> Mapping[str, str]:
        """The parameter or buffer that an input of `graph` stands for, by its name there; others are not in it."""
        return self._programs.first.state

    def __repr__(self) -> str:
        units = sum(self.groups.values())
        return f"Symmetry({len(self.groups)} groups, {units} units, coverage {self.coverage:.3f})"

    def identity(self) -> Permutation:
        """The permutation that moves nothing."""
        return Permutation({group: torch.arange(size) for group, size in self.groups.items()})

    def random(self, generator: torch.Generator | None = None) -> Permutation:
        """Every group permuted at random, uniformly, nested ones in each of the units around them.

        Raises InputError for a generator that is none of the CPU's.
        """
        check_generator(generator)

        def index(group: str) -> Tensor:
            size, around = self.groups[group], self.around(group)
            rows = [torch.randperm(size, generator=generator) for _ in range(prod(around))]
            return torch.stack(rows).reshape(*around, size)

        return Permutation({group: index(group) for group in self.groups}, self.within)

    def around(self, group: str) -> tuple[int, ...]:
        """The sizes of the groups that a group is nested in, from the outermost on; none for most."""
        return tuple(self.groups[outer] for outer in self.within.get(group, ()))

    def num_units(self, group: str) -> int:
        """The number of a group's units, those of all units around it together."""
        return prod(self.around(group)) * self.groups[group]

    def joint(self, permutation: Permutation, group: str) -> Tensor:
        """The index vector of a group's `num_units` units, those of one outer unit after another."""
        path = (*self.within.get(group, ()), group)
        return permutation.joint(path, [self.groups[name] for name in path]) if len(path) > 1 else permutation[group]

    @property
    def log10(self) -> float:
        """log10 of the number of permutations: n! for every group of n units, in each of the units around it."""
        sizes = ((size, prod(self.around(group))) for group, size in self.groups.items())
        return sum(units * math.lgamma(size + 1) for size, units in sizes) / math.log(10)

    def permute(self, tensors: Network, permutation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Permute a network, or tensors that have its names and shapes: weights, buffers, masks, optimiser moments.

        Any subset of the names will do, and a stack by its name for its members. Returns new tensors, bit for bit the
        old ones' elements, on their devices; what is no tensor (a module's extra state) is carried along.
        Raises InputError for a name or shape that the network does not have, or groups of other sizes.
        """
        permutation = fitting(permutation, self.groups, self.within)
        tensors = network_of(tensors).state_dict() if isinstance(tensors, nn.Module) else tensors
        permuted = dict(tensors)
        for name, tensor in tensors.items():
            if isinstance(tensor, Tensor) and name not in self._stack_of:
                permuted[name] = permute_tensor(tensor.detach(), self._axes_of(name, tensor), permutation)
        for stack in dict.fromkeys(self._stack_of[name] for name in tensors if name in self._stack_of):
            names = self.stacks[stack]
            for name in names:
                if name in tensors:
                    self._axes_of(name, tensors[name])
            permuted |= permute_members(tensors, names, self.places[stack], permutation)
        return permuted

    def observe(
        self,
        states: Sequence[Mapping[str, Tensor]],
        call: ForwardCall | tuple[Any, ...],
        visit: Visit,
        observations: Mapping[str, Sequence[Observation]] | None = None,
    ) -> None:
        """Run the network in eval mode on the same inputs under several states and show every group's units.

        `visit(group, k, units)` gets, for observation k of the group (one of all, or of those given), the units of each
        state, shape (..., units); it must not keep them: the network may go on to work on them in place. Inputs and
        states must be on one device; any size that the network takes will do, of a batch or a sequence. Raises
        InputError for integers where the network was traced on floating point, and the other way round; and for sizes
        at which it does something else than where it was traced.
        """
        call = call if isinstance(call, ForwardCall) else ForwardCall(call)
        visit_observed(self._programs.execute(states, call), observations or self.observations, visit)

    def verify(
        self,
        model: nn.Module,
        example_inputs: Example | None = None,
        example_kwargs: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> float:
        """The relative error of the outputs under a random permutation, on the CPU.

        The model itself is run, not the traced graph; its weights are scaled and constants (norms as they are
        initialised, layers that start at zero) replaced by random values first, for otherwise they might not show an
        error. Raises SymmetryError if the error is above 1e-9 in float64; above 1e-4 in float32, if the network only
        runs in that (`checked_in` says so). The model is not modified.
        """
        model = network_of(model)
        generator, call = torch.Generator().manual_seed(seed), example_call(model, example_inputs, example_kwargs)
        move = partial(self.permute, permutation=self.random(generator))
        names = [self.stacks.get(name, (name,)) for name in self.places]
        error, self.checked_in = checked_error(model, call, names, move, generator)
        return error

    def is_learned(self, place: str) -> bool:
        """Whether what is at a place are parameters, not buffers."""
        return self.stacks.get(place, (place,))[0] in self.parameters

    def _axes_of(self, name: str, tensor: Tensor) -> tuple[AxisType, ...]:
        axes = self.places.get(name) or self.axes.get(name)
        if axes is None:
            raise InputError(
                f"tensors has {name}, which this network does not have: expected names as {_some(self.axes)}"
            )
        expected = tuple(axis.size for axis in axes)
        if tuple(tensor.shape) != expected:
            raise InputError(f"{name} has shape {tuple(tensor.shape)}, expected {expected}")
        return axes


def trace_symmetry(
    model: nn.Module,
    example_inputs: Example | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    verify: bool = True,
) -> Symmetry:
    """Find the permutation symmetry of any network that `torch.export` takes, and check it numerically.

    `example_inputs` is one input tensor, a tuple of the model's arguments, or a dict by their names, `example_kwargs`
    further ones by name; the batch comes first, and values do not matter. A LightningModule with an
    `example_input_array` needs neither. The network is traced in eval mode and left as it is; of its answer, what is
    no tensor is left alone. Raises SymmetryError, naming the line, if it cannot be exported, and if a permutation of
    what was found changes its outputs (`Symmetry.verify`); InputError for arguments that it does not take.

        >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> symmetry = rb.trace_symmetry(network, torch.zeros(2, 3))
        >>> symmetry
        Symmetry(1 groups, 4 units, coverage 0.923)
    """
    symmetry = infer_symmetry(model, example_inputs, example_kwargs)
    if verify:
        symmetry.error = symmetry.verify(model, example_inputs, example_kwargs)
    return symmetry


def infer_symmetry(
    model: nn.Module,
    example_inputs: Example | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    rules: Mapping[str, Rule] | None = None,
) -> Symmetry:
    """`trace_symmetry` without the check, and with other rules if given."""
    model = network_of(model)
    call = example_call(model, example_inputs, example_kwargs)
    return read_symmetry(export(model, call), model, rules)


def read_symmetry(program: Program, model: nn.Module, rules: Mapping[str, Rule] | None = None) -> Symmetry:
    """The symmetry of a network that has been exported as `program`."""
    tensors = tensors_of(model)
    symmetry = _typed(program, model, tensors, rules)
    if not symmetry.unknown:
        return symmetry
    try:  # compound operators: say it again in terms of simpler ones
        simpler = program.decomposed()
    except Exception as error:  # whatever PyTorch raises: the first typing stands
        problem = f"PyTorch cannot say {type(model).__name__} in core operators: {first_line(error)}"
        symmetry.unknown = MappingProxyType({**symmetry.unknown, "core operators": problem})
        return symmetry
    other = _typed(simpler, model, tensors, rules)
    return max(symmetry, other, key=lambda found: (found.coverage, sum(found.groups.values())))


def _typed(
    program: Program, model: nn.Module, tensors: Mapping[str, Tensor], rules: Mapping[str, Rule] | None
) -> Symmetry:
    """The symmetry with those siblings that change places, and whose own units each permutes in its own way.

    Siblings of which that is not so would but do alike what each can do by itself.
    """
    siblings = find_siblings(program, tensors)
    while True:
        symmetry = Symmetry(Programs(model, program), Inference(program, tensors, rules, siblings), tensors)
        free = free_stacks(symmetry.places, symmetry.stacks, symmetry.within)
        kept = [group for group in siblings if free.issuperset(map(stack_name, group.tensors(program)))]
        if len(kept) == len(siblings):
            return symmetry
        siblings = kept


def _some(names: Mapping[str, Any]) -> str:
    return ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
