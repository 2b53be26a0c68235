"""Loss and error of many networks in one pass over the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from rebasin_lt.batches import device_of, nonempty, state_of
from rebasin_lt.connectivity.batchnorm import clone
from rebasin_lt.errors import InputError
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.judging.judge import Chosen, judge_of
from rebasin_lt.judging.losses import CROSS_ENTROPY
from rebasin_lt.models.evaluation_mode import evaluation_mode
from rebasin_lt.precision import full_precision, sum_dtype


class Evaluation(NamedTuple):
    """The loss of a network on data, and its error where its loss has one.

    >>> found = rb.evaluate([nn.Identity()], [(torch.eye(2), torch.tensor([0, 0]))])[0]
    >>> round(found.loss, 4), found.error, found.num_images
    (0.8133, 0.5, 2)
    """

    loss: float  # cross entropy per image in nats, or the mean of another loss over what it counts
    error: float | None  # share of images classified wrongly, or of what else counts, in [0, 1]
    num_images: int  # or of what else the means are over: pixels, tokens, values


@torch.no_grad()
def evaluate(
    networks: Sequence[nn.Module],
    batches: Iterable[Any],
    factors: Sequence[float] | None = None,
    loss: Chosen = CROSS_ENTROPY,
) -> list[Evaluation]:
    """Loss and error of each network over all batches, in the mode it is in; the networks lie on one device.

    The mean is over all that the loss counts in the whole set, whatever the batches. The loss is that of the answers
    times the network's own of `factors`, the error that of the answers as they are.

    Each batch is read once, for all networks, which compute in the precision of their weights (`full_precision`). Sums
    are fp64 (`sum_dtype`) and stay on the device until the end. Raises InputError for batches without targets, or in
    which nothing counts, and for what the loss is not of, as `check_judged`.

        >>> batches = [(torch.eye(2), torch.tensor([0, 1])), (torch.eye(2), torch.tensor([0, 0]))]
        >>> [found.error for found in rb.evaluate([nn.Identity(), nn.Softmax(1)], batches)]
        [0.25, 0.25]
    """
    if isinstance(networks, nn.Module):
        raise InputError(f"networks is one {type(networks).__name__}, expected a list of them: evaluate([network], …)")
    judge, device = judge_of(loss), device_of(state_of(networks[0]))
    sums = torch.zeros(len(networks), 2, dtype=sum_dtype(device), device=device)
    count: Any = 0
    for batch in nonempty(judge.read(batches, networks[0], "batches")):
        batch = batch.to(device)
        for row, network, factor in zip(sums, networks, factors or [1.0] * len(networks), strict=True):
            with full_precision(device):
                found = judge.sums(network, batch, factor)
            row[0] += found.loss
            row[1] += 0 if found.error is None else found.error
        count = count + found.counted
    if not int(count):
        raise InputError(f"batches hold nothing that the loss {judge.judged.loss} counts: is every label ignored?")
    has_error = judge.judged.error is not None
    means = (sums / int(count)).tolist()
    return [Evaluation(loss, error if has_error else None, int(count)) for loss, error in means]


@torch.no_grad()
def check_called(network: nn.Module, batches: Iterable[Any], argument: str = "batches") -> None:
    """Raise InputError, in one line, unless the first of `batches` is a call that the network takes.

    The network is in evaluation mode, and left as it is.
    """
    device = device_of(state_of(network))
    call = next(nonempty(calls_of(batches, network, argument), argument)).to(device)
    with full_precision(device), evaluation_mode(network):
        call.of(network)


@torch.no_grad()
def check_judged(
    network: nn.Module, batches: Iterable[Any], argument: str = "batches", loss: Chosen = CROSS_ENTROPY
) -> None:
    """Raise InputError, in one line, unless the loss is one of the network's answer to the first of `batches`.

    The network is in evaluation mode, and left as it is. So a regressor, a segmentation network or labels that are no
    indices are refused before anything is computed, with the losses that would fit.
    """
    judge, device = judge_of(loss), device_of(state_of(network))
    batch = next(nonempty(judge.read(batches, network, argument), argument)).to(device)
    with full_precision(device):
        judge.check(clone(network), batch, argument)
