"""The permutation symmetry of a network, found by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rebasin_lt.batches import Network, network_of
from rebasin_lt.errors import InputError, SymmetryError
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.symmetry.axis_type import AxisBlock, AxisType
from rebasin_lt.symmetry.call import Rule
from rebasin_lt.symmetry.export import Program, example_call, export
from rebasin_lt.symmetry.infer import Inference, identity_of
from rebasin_lt.symmetry.layouts import Atom, Layout, atoms_of, fixed, resolve
from rebasin_lt.symmetry.observation import Observation, find_observations
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.programs import Programs
from rebasin_lt.symmetry.verification import permutation_error, tensors_of

TOLERANCE = 1e-9  # relative error of the permuted network's outputs, float64
_ROUNDING = 1e-6  # an error up to here may be rounding, amplified by a deep network
_UNUSED = "not used in evaluation mode"

Example = Tensor | tuple[Any, ...] | Mapping[str, Any]
Visit = Callable[[str, int, list[Tensor]], None]


class Frozen(NamedTuple):
    """Units of a parameter or buffer that no group moves."""

    name: str
    axis: int
    units: int
    reason: str


class Symmetry:
    """The groups of units that may be permuted without changing what a network computes, and where they act.

    `groups`: name -> number of units; a group is named by the parameter whose output it first is, with `[1]`,
    `[2]`, ... for further groups of that parameter. `axes`: name of a parameter or buffer -> `AxisType` per
    dimension. `parameters`: the names among them that are parameters, not buffers. `frozen`: what stays, and why.
    `unknown`: operators that could not be followed, with the reason. `coverage`: fraction of the parameters'
    elements that some group moves. `form`: the arguments that it was traced with. `observations`: group ->
    `Observation`s, as executed. `error`: the relative error that `verify` measured when the network was traced,
    None without.

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
        _fix_what_buffers_define(inference.order, layouts, tensors)
        groups = _name_groups([*inference.order, *tensors], layouts)
        self.groups: Mapping[str, int] = MappingProxyType({name: atom.size for atom, name in groups.items()})
        self.axes: Mapping[str, tuple[AxisType, ...]] = MappingProxyType({
            name: tuple(_axis_type(layout, groups) for layout in layouts[name])
            or tuple(AxisType(size) for size in tensor.shape)
            for name, tensor in tensors.items()
        })
        self.parameters = frozenset(name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter))
        self.frozen: tuple[Frozen, ...] = tuple(_frozen(self.axes, layouts))
        self.unknown: Mapping[str, str] = MappingProxyType(dict(inference.unknown))
        self.coverage = _coverage({name: axes for name, axes in self.axes.items() if name in self.parameters})
        self.observations: Mapping[str, tuple[Observation, ...]] = MappingProxyType(
            find_observations(inference, groups)
        )
        self.error: float | None = None

    def __repr__(self) -> str:
        units = sum(self.groups.values())
        return f"Symmetry({len(self.groups)} groups, {units} units, coverage {self.coverage:.3f})"

    def identity(self) -> Permutation:
        """The permutation that moves nothing."""
        return Permutation({group: torch.arange(size) for group, size in self.groups.items()})

    def random(self, generator: torch.Generator | None = None) -> Permutation:
        """Every group permuted at random, uniformly."""
        return Permutation({group: torch.randperm(size, generator=generator) for group, size in self.groups.items()})

    def permute(self, tensors: Network, permutation: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Permute a network, or tensors that have its names and shapes: weights, buffers, masks, optimiser moments.

        Any subset of the names will do. Returns new tensors, bit for bit the old ones' elements, on their devices;
        what is no tensor (a module's extra state) is carried along.
        Raises InputError for a name or shape that the network does not have, or groups of other sizes.
        """
        self._check_permutation(permutation)
        tensors = network_of(tensors).state_dict() if isinstance(tensors, nn.Module) else tensors
        permuted = {}
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor):
                permuted[name] = tensor
                continue
            axes = self._axes_of(name, tensor)
            moved = tensor.detach().clone() if not any(axis.blocks for axis in axes) else tensor.detach()
            for dim, axis in enumerate(axes):
                if axis.blocks:
                    moved = moved.index_select(dim, axis.index(permutation).to(tensor.device))
            permuted[name] = moved
        return permuted

    def observe(
        self, states: Sequence[Mapping[str, Tensor]], call: ForwardCall | tuple[Any, ...], visit: Visit
    ) -> None:
        """Run the network in eval mode on the same inputs under several states and show every group's units.

        `visit(group, k, units)` gets, for observation k of the group, the units of each state, shape (..., units);
        it must not keep them, for the network may go on to work on them in place. The call's inputs and the states must
        be on one device; any batch size will do, and any other size that the network takes, such as the length of a
        sequence. Stops after the last observation. Raises InputError for inputs that are
        integers where the network was traced on floating point, and the other way round; and for sizes at which it
        does something else than where it was traced.
        """
        call = call if isinstance(call, ForwardCall) else ForwardCall(call)
        points: dict[str, list[tuple[str, int, Observation]]] = {}
        for group, observations in self.observations.items():
            for k, observation in enumerate(observations):
                points.setdefault(observation.node, []).append((group, k, observation))
        for node, values in self._programs.execute(states, call):
            for group, k, observation in points.pop(node, ()):
                visit(group, k, [observation.units(value) for value in values])
            if not points:
                return

    def verify(
        self,
        model: nn.Module,
        example_inputs: Example | None = None,
        example_kwargs: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> float:
        """The relative error of the outputs under a random permutation, in float64 on the CPU.

        The model itself is run, not the traced graph; its weights are scaled and constants (norms as they are
        initialised, layers that start at zero) replaced by random values first, for otherwise they might not show an
        error. Raises SymmetryError if the error is above 1e-9. The model is not modified.
        """
        model = network_of(model)
        generator, call = torch.Generator().manual_seed(seed), example_call(model, example_inputs, example_kwargs)
        permutation = self.random(generator)
        permute = partial(self.permute, permutation=permutation)
        error = permutation_error(model, call, self.axes, permute, generator)
        if TOLERANCE < error <= _ROUNDING:
            # A network that amplifies rounding a million times would show a real asymmetry as large as its outputs.
            error = permutation_error(model, call, self.axes, permute, generator, gain=0.9)
        if not error <= TOLERANCE:
            raise SymmetryError(
                f"a random permutation changes the outputs of {type(model).__name__} by a relative error of "
                f"{error:.2e} (expected at most {TOLERANCE:g}): the symmetry found is not one of this network"
            )
        return error

    def _check_permutation(self, permutation: Mapping[str, Tensor]) -> None:
        for group, index in permutation.items():
            if group not in self.groups:
                raise InputError(
                    f"permutation has a group {group}, which this network does not have: {_some(self.groups)}"
                )
            if len(index) != self.groups[group]:
                raise InputError(f"permutation of {group} has {len(index)} units, expected {self.groups[group]}")

    def _axes_of(self, name: str, tensor: Tensor) -> tuple[AxisType, ...]:
        if name not in self.axes:
            raise InputError(
                f"tensors has {name}, which this network does not have: expected names as {_some(self.axes)}"
            )
        expected = tuple(axis.size for axis in self.axes[name])
        if tuple(tensor.shape) != expected:
            raise InputError(f"{name} has shape {tuple(tensor.shape)}, expected {expected}")
        return self.axes[name]


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
    inference = Inference(program, tensors, rules)
    if inference.unknown:  # compound operators: say it again in terms of simpler ones
        program = program.decomposed()
        inference = Inference(program, tensors, rules)
    return Symmetry(Programs(model, program), inference, tensors)


def _fix_what_buffers_define(
    order: list[str], layouts: Mapping[str, list[Layout]], tensors: Mapping[str, Tensor]
) -> None:
    """Fix units that first show in a buffer, such as coordinates in a table: it is the same in every such network."""
    known: set[Atom] = set()
    for name in order:
        for atom in atoms_of(layouts[name]):
            if atom not in known and not isinstance(tensors[name], nn.Parameter):
                atom.binding = fixed(atom.size, f"the order is given by the buffer {name}")
            known.add(atom)


def _name_groups(names: list[str], layouts: Mapping[str, list[Layout]]) -> dict[Atom, str]:
    """A name for every atom that acts on a parameter or buffer, in the order of first use."""
    groups: dict[Atom, str] = {}
    for name in dict.fromkeys(names):
        new = [atom for atom in atoms_of(layouts[name]) if atom not in groups]
        for k, atom in enumerate(new):
            groups[atom] = f"{name}[{k}]" if k else name
    return groups


def _axis_type(layout: Layout, groups: Mapping[Atom, str]) -> AxisType:
    blocks = (
        AxisBlock(tuple(groups[atom] for atom in block.atoms), torch.from_numpy(block.positions.copy()))
        for block in resolve(layout).blocks
    )
    return AxisType(layout.size, tuple(blocks))


def _frozen(axes: Mapping[str, tuple[AxisType, ...]], layouts: Mapping[str, list[Layout]]) -> Iterator[Frozen]:
    for name, types in axes.items():
        for dim, axis in enumerate(types):
            if axis.num_fixed and axis.size > 1:
                reason = resolve(layouts[name][dim]).reason if layouts[name] else _UNUSED
                yield Frozen(name, dim, axis.num_fixed, reason or "nothing to exchange it with")


def _coverage(axes: Mapping[str, tuple[AxisType, ...]]) -> float:
    total = moved = 0.0
    for types in axes.values():
        size, fixed = 1, 1
        for axis in types:
            size *= axis.size
            fixed *= axis.num_fixed
        total += size
        moved += size - fixed
    return moved / total if total else 0.0


def _some(names: Mapping[str, Any]) -> str:
    return ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
