"""Batch norm statistics re-estimated: without it, a point between two networks is judged with statistics of neither."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rebasin_lt.batches import Network, network_of, state_of
from rebasin_lt.connectivity.passes import run_all
from rebasin_lt.errors import InputError


def batchnorm_layers(network: nn.Module) -> list[_BatchNorm]:
    """The batch norm layers, of any class, that keep running statistics."""
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    return [layer for layer in layers if layer.running_mean is not None]


def reset_batchnorm(network: nn.Module, batches: Iterable[Any], state: Network | None = None) -> dict[str, Tensor]:
    """The state dict of `network` with its batch norm statistics re-estimated in one pass over `batches`.

    As in REPAIR (arXiv 2211.08403): each statistic is the average of its values per batch. Batches count by their
    values per channel, so equal batches give what torch's `momentum=None` gives. Only the batch norm layers run in
    training mode (dropout stays off), in the precision of the weights (`full_precision`); a layer that is not
    called keeps its statistics. `state`: weights to use instead of the network's own. The network is not modified;
    one without batch norm needs no pass, and its state comes back as it was. Raises InputError where there is no
    batch, or one with a single value per channel.

        >>> network = nn.BatchNorm1d(1)
        >>> state = rb.reset_batchnorm(network, [torch.tensor([[1.0], [3.0]])])
        >>> state["running_mean"].item(), network.running_mean.item()
        (2.0, 0.0)
    """
    return reset_batchnorm_of(network, batches, [state_of(network if state is None else state)])[0]


@torch.no_grad()
def reset_batchnorm_of(
    network: nn.Module, batches: Iterable[Any], states: Sequence[Mapping[str, Tensor]]
) -> list[dict[str, Tensor]]:
    """`reset_batchnorm` of many states of one network in a single pass, with the same results. Raises as that does."""
    workers = [clone(network, state) for state in states]
    for worker in workers:
        _estimate_(worker)
    if batchnorm_layers(network):
        run_all(workers, batches)
    return [state_of(worker) for worker in workers]


def _estimate_(network: nn.Module) -> None:
    """Make the batch norm layers of `network` estimate their statistics anew from the batches to come."""
    values_seen: dict[nn.Module, int] = {}
    for layer in batchnorm_layers(network):
        layer.train().register_forward_pre_hook(lambda layer, inputs: _weigh_(layer, inputs[0], values_seen))


def _weigh_(layer: nn.Module, inputs: Tensor, values_seen: dict[nn.Module, int]) -> None:
    """Set the layer's momentum to this batch's share so far, which makes torch's moving average the weighted mean."""
    assert isinstance(layer, _BatchNorm)
    values = inputs.numel() // layer.num_features
    if values < 2:
        raise InputError("batches holds one with a single value per batch norm channel: use larger batches")
    if layer not in values_seen:
        layer.reset_running_stats()
    values_seen[layer] = values_seen.get(layer, 0) + values
    layer.momentum = values / values_seen[layer]


def clone(network: nn.Module, state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """A copy of `network` in eval mode, on its device, holding `state`. Raises as `load`."""
    network = copy.deepcopy(network_of(network)).eval()
    if state is not None:
        load(network, state)
    return network


def load(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy `state` into `network`. Raises InputError for a state that does not fit."""
    try:
        network_of(network).load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise InputError(f"state does not fit the network {type(network).__name__}: {detail}") from error
