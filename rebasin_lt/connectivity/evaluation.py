"""Loss and error of many networks in one pass over the images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from rebasin_lt.matching.batches import device_of, labelled, nonempty, state_of
from rebasin_lt.precision import full_precision, sum_dtype


class Evaluation(NamedTuple):
    """What a network does on labelled images."""

    loss: float  # mean cross entropy per image, nats
    error: float  # share of images classified wrongly, in [0, 1]
    num_images: int


@torch.no_grad()
def evaluate(networks: Sequence[nn.Module], batches: Iterable[Any]) -> list[Evaluation]:
    """Loss and error of each network over all images, in the mode it is in; the networks lie on one device.

    Each batch is read once, for all networks, which compute in the precision of their weights (`full_precision`). Sums
    are fp64 (`sum_dtype`) and stay on the device until the end. Raises InputError for
    batches without targets or without images.
    """
    device = device_of(state_of(networks[0]))
    sums, num_images = torch.zeros(len(networks), 2, dtype=sum_dtype(device), device=device), 0
    for batch in nonempty(batches):
        inputs, targets = labelled(batch, device)
        for row, network in zip(sums, networks, strict=True):
            with full_precision(device):
                logits = network(*inputs).to(sums.dtype)
            row[0] += F.cross_entropy(logits, targets, reduction="sum")
            row[1] += (logits.argmax(-1) != targets).sum()
        num_images += len(targets)
    return [Evaluation(loss, error, num_images) for loss, error in (sums / num_images).tolist()]
