"""Loss and error of many classifiers in one pass over the images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebasin_lt.batches import device_of, nonempty, state_of
from rebasin_lt.connectivity.batchnorm import clone
from rebasin_lt.errors import InputError
from rebasin_lt.feeding.answer import answer_of
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.precision import full_precision, sum_dtype


class Evaluation(NamedTuple):
    """The loss and accuracy of a network on labelled images.

    >>> found = rb.evaluate([nn.Identity()], [(torch.eye(2), torch.tensor([0, 0]))])[0]
    >>> round(found.loss, 4), found.error, found.num_images
    (0.8133, 0.5, 2)
    """

    loss: float  # mean cross entropy per image, nats
    error: float  # share of images classified wrongly, in [0, 1]
    num_images: int


@torch.no_grad()
def evaluate(
    networks: Sequence[nn.Module], batches: Iterable[Any], factors: Sequence[float] | None = None
) -> list[Evaluation]:
    """Loss and error of each network over all images, in the mode it is in; the networks lie on one device.

    The loss is that of the logits times the network's own of `factors`, the error that of the logits as they are.

    Each batch is read once, for all networks, which compute in the precision of their weights (`full_precision`). Sums
    are fp64 (`sum_dtype`) and stay on the device until the end. Raises InputError for batches without targets or
    without images, and for what is no classification, as `check_classifies`.

        >>> batches = [(torch.eye(2), torch.tensor([0, 1])), (torch.eye(2), torch.tensor([0, 0]))]
        >>> [found.error for found in rb.evaluate([nn.Identity(), nn.Softmax(1)], batches)]
        [0.25, 0.25]
    """
    device = device_of(state_of(networks[0]))
    sums, num_images = torch.zeros(len(networks), 2, dtype=sum_dtype(device), device=device), 0
    for call in nonempty(calls_of(batches, networks[0])):
        call = call.to(device)
        targets = call.label
        for row, network, factor in zip(sums, networks, factors or [1.0] * len(networks), strict=True):
            with full_precision(device):
                logits = _logits(call.of(network), targets).to(sums.dtype)
            row[0] += F.cross_entropy(factor * logits, targets.long(), reduction="sum")
            row[1] += (logits.argmax(-1) != targets).sum()
        num_images += len(targets)
    return [Evaluation(loss, error, num_images) for loss, error in (sums / num_images).tolist()]


@torch.no_grad()
def check_classifies(network: nn.Module, batches: Iterable[Any], argument: str = "batches") -> None:
    """Raise InputError, in one line, unless the first of `batches` is one that a classifier can be judged on.

    That is: `network`, in evaluation mode, answers it with logits of shape (N, classes), and its targets are integers
    of shape (N,), each the index of a class. So a regressor, a segmentation network, labels that are no indices or an
    output by name is refused before anything is computed.
    """
    device = device_of(state_of(network))
    call = next(nonempty(calls_of(batches, network, argument), argument)).to(device)
    targets = call.label
    with full_precision(device):
        logits = _logits(call.of(clone(network)), targets, argument)
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < logits.shape[1]:
        raise InputError(
            f"{argument} has targets from {int(targets.min())} to {int(targets.max())}, but the network tells "
            f"{logits.shape[1]} classes apart: expected their indices, from 0 to {logits.shape[1] - 1}"
        )


def _logits(output: Any, targets: Tensor, argument: str = "batches") -> Tensor:
    """A network's answer to a batch, if it is that of a classifier. Raises InputError for any other."""
    wanted = "loss and error are those of a classifier"
    logits = answer_of(output)
    if logits.dim() != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise InputError(
            f"network returns {_described(logits)}, but {wanted}: expected logits of shape (images, classes) for at "
            "least two classes"
        )
    integer = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    if not integer or targets.shape != logits.shape[:1]:
        raise InputError(
            f"{argument} has targets {_described(targets)}, but {wanted}: expected integers, the index of each image's "
            f"class, of shape ({len(logits)},)"
        )
    return logits


def _described(tensor: Tensor) -> str:
    return f"of shape {tuple(tensor.shape)} and dtype {tensor.dtype}"
