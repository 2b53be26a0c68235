"""Units of a masked network that cannot matter, and the weights that only they touch.

A unit is dead if nothing it computes can depend on the input (*unreached*: no path of kept weights leads to it), or
nothing reads it (*unread*: no path of kept weights leads from it to an output). Paths run through the weights of
linear layers and convolutions; biases and normalisation give an unreached unit a constant, no more.

Units are those of the network's permutation groups. All tensors that write one group (a residual stream) count
together, and so do all that read it, whatever their order; what is reported dead therefore is, but a unit that is dead
in a part of a stream only is not reported. Not judged, and held alive, are the units of groups that other parameters
than convolutions, linear layers and BatchNorm act on (LayerNorm mixes units without a weight between them), of grouped
convolutions that are not depthwise, and, in one direction, of groups that no weight writes or none reads (queries and
keys of attention).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rebasin_lt.batches import network_of
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.axis_type import AxisType
from rebasin_lt.symmetry.trace import Symmetry

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_COUNTED = ("no_incoming", "no_outgoing", "unreached", "unread", "dead")
Alive = dict[str, Tensor]  # group -> bool, shape (units,)


@dataclass(frozen=True)
class DeadUnits:
    """The units of a network that a mask leaves; bool tensors of shape (units,) by group, on the CPU.

    `no_incoming`, `no_outgoing`: no kept weight into, out of the unit. `unreached`, `unread`: none on a path from the
    input, to an output. `effective`: the mask without the weights of dead units.

        >>> network = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
        >>> symmetry = rb.trace_symmetry(network, torch.zeros(2, 3))
        >>> mask = rb.Mask({"2.weight": torch.tensor([[True, False], [True, False]])})
        >>> rb.find_dead_units(network, symmetry, mask).no_outgoing["0.weight"].tolist()
        [False, True]
    """

    no_incoming: Mapping[str, Tensor]
    no_outgoing: Mapping[str, Tensor]
    unreached: Mapping[str, Tensor]
    unread: Mapping[str, Tensor]
    effective: Mask

    @cached_property
    def dead(self) -> Mapping[str, Tensor]:
        """Unreached or unread."""
        return {group: self.unreached[group] | self.unread[group] for group in self.unreached}

    def report(self) -> list[dict[str, str | int]]:
        """One row per group: units, no_incoming, no_outgoing, unreached, unread, dead, and dead through others only."""
        return [
            {
                "group": group,
                "units": len(dead),
                **{name: int(getattr(self, name)[group].sum()) for name in _COUNTED},
                "through_others": int((dead & ~self.no_incoming[group] & ~self.no_outgoing[group]).sum()),
            }
            for group, dead in self.dead.items()
        ]


def find_dead_units(network: nn.Module, symmetry: Symmetry, mask: Mask) -> DeadUnits:
    """The dead units of `network` under `mask`, by propagation to a fixpoint over its permutation groups.

    Weights that the mask does not name are dense. `symmetry` is that of the network. Raises InputError where the mask
    does not fit.

        >>> network = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
        >>> symmetry = rb.trace_symmetry(network, torch.zeros(2, 3))
        >>> mask = rb.Mask({"2.weight": torch.tensor([[True, False], [True, False]])})
        >>> rb.find_dead_units(network, symmetry, mask).dead["0.weight"].tolist()
        [False, True]
    """
    network = network_of(network)
    mask.check_fits(dict(network.named_parameters(remove_duplicate=False)))
    links, open_groups = _links(network, symmetry, mask)
    backward = [link.reversed() for link in links]
    incoming, outgoing = (_Flow(symmetry.groups, flow, open_groups) for flow in (links, backward))
    reached, read = incoming.fixpoint(), outgoing.fixpoint()
    alive = {group: reached[group] & read[group] for group in symmetry.groups}
    effective = {name: tensor & _outer(symmetry.axes[name], alive) for name, tensor in mask.items()}
    return DeadUnits(
        no_incoming=_negated(incoming.one_step()),
        no_outgoing=_negated(outgoing.one_step()),
        unreached=_negated(reached),
        unread=_negated(read),
        effective=Mask(effective),
    )


@dataclass(frozen=True)
class _Link:
    """Kept weights from units on the `source` axis to units on the `target` axis."""

    weights: Tensor  # float, (target positions, source positions), 1 where a weight is kept
    target: AxisType
    source: AxisType

    def reversed(self) -> _Link:
        return _Link(self.weights.T, self.source, self.target)


class _Flow:
    """Life that spreads along links: from fixed positions (inputs or outputs) and groups that are held alive."""

    def __init__(self, groups: Mapping[str, int], links: Sequence[_Link], open_groups: Iterable[str]) -> None:
        self.groups, self.links = groups, links
        targets = {group for link in links for group in link.target.groups}
        self.held = set(open_groups) | (set(groups) - targets)

    def fixpoint(self) -> Alive:
        """The least set of living units that is closed under the links: a cycle of units does not feed itself."""
        alive = {group: torch.full((size,), group in self.held) for group, size in self.groups.items()}
        while True:
            before = sum(int(units.sum()) for units in alive.values())
            for link in self.links:
                self._spread(link, alive, alive)
            if sum(int(units.sum()) for units in alive.values()) == before:
                return alive

    def one_step(self) -> Alive:
        """The units with a kept weight, wherever it comes from."""
        everything = {group: torch.ones(size, dtype=torch.bool) for group, size in self.groups.items()}
        touched = {group: torch.full((size,), group in self.held) for group, size in self.groups.items()}
        for link in self.links:
            self._spread(link, everything, touched)
        return touched

    @staticmethod
    def _spread(link: _Link, alive: Alive, reached: Alive) -> None:
        """Mark in `reached` what living units on the source axis reach."""
        positions = link.weights @ _living(link.source, alive).float() > 0
        for group in link.target.groups:
            for places in link.target.positions_of(group):
                reached[group] |= positions[places].any(1)


def _links(network: nn.Module, symmetry: Symmetry, mask: Mask) -> tuple[list[_Link], set[str]]:
    """The links of all linear and convolution weights, and the groups that are held alive."""
    links: list[_Link] = []
    open_groups: set[str] = set()
    for prefix, module in network.named_modules(remove_duplicate=False):
        for own, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{prefix}.{own}" if prefix else own
            axes = symmetry.axes[name]
            if own == "weight" and _is_link(module):
                links.append(_link(mask.get(name, torch.ones(parameter.shape, dtype=torch.bool)), axes))
            elif not _is_passive(module, own):
                open_groups |= {group for axis in axes for group in axis.groups}
    return links, open_groups


def _is_link(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, _CONVOLUTIONS) and module.groups == 1)


def _is_passive(module: nn.Module, name: str) -> bool:
    """Parameters that act on each unit alone: biases, BatchNorm, depthwise kernels."""
    if isinstance(module, _CONVOLUTIONS) and module.groups > 1 and name == "weight":
        return module.groups == module.in_channels == module.out_channels
    return isinstance(module, (nn.Linear, *_CONVOLUTIONS, _BatchNorm))


def _link(kept: Tensor, axes: Sequence[AxisType]) -> _Link:
    return _Link(kept.flatten(2).any(-1).float() if kept.dim() > 2 else kept.float(), axes[0], axes[1])


def _living(axis: AxisType, alive: Alive) -> Tensor:
    """The living positions of an axis: those of living units in every group that acts there, and all fixed ones."""
    living = torch.ones(axis.size, dtype=torch.bool)
    for group in axis.groups:
        for places in axis.positions_of(group):
            living[places.flatten()] &= alive[group].repeat_interleave(places.shape[1])
    return living


def _outer(axes: Sequence[AxisType], alive: Alive) -> Tensor:
    """The weights that touch living units only."""
    result = torch.ones(1, dtype=torch.bool)
    for axis in axes:
        result = result.unsqueeze(-1) & _living(axis, alive)
    return result.squeeze(0)


def _negated(units: Alive) -> Alive:
    return {group: ~tensor for group, tensor in units.items()}
