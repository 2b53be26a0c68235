"""The temperature at which a network is as sure of its answers as it may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rebasin_lt.batches import device_of, nonempty, state_of
from rebasin_lt.feeding.answer import answer_of
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.precision import full_precision, sum_dtype

_HALVINGS = 60


@torch.no_grad()
def inverse_temperatures(networks: Sequence[nn.Module], batches: Iterable[Any]) -> list[float]:
    """For each network the factor 1 / T on its logits that makes the cross entropy on all images least.

    A scalar per network (temperature scaling, Guo et al., arXiv 1706.04599), which changes no answer: what is left of a
    loss barrier is not that points between two networks are too sure, or not sure enough, of what they say (arXiv
    2510.08023). One pass over `batches`; the logits of all networks are kept, images × classes numbers of each. Raises
    InputError for batches without images or targets.
    """
    device = device_of(state_of(networks[0]))
    answers: list[list[Tensor]] = [[] for _ in networks]
    labels = []
    for call in nonempty(calls_of(batches, networks[0])):
        call = call.to(device)
        labels.append(call.label.long())
        with full_precision(device):
            for kept, network in zip(answers, networks, strict=True):
                kept.append(answer_of(call.of(network)))
    return [inverse_temperature(torch.cat(kept), torch.cat(labels)) for kept in answers]


def inverse_temperature(
    logits: Tensor,  # shape: (images, classes)
    targets: Tensor,  # shape: (images,), int64
) -> float:
    """The factor 1 / T, at least 0, on the logits at which the mean cross entropy is least; it is convex in it.

    0 stands for an infinite temperature: answers that are worse than none. Where every image has its own class among
    the largest logits, there is no best temperature, for being surer is always better: then it is 1.

        >>> logits, targets = torch.tensor([[2.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
        >>> round(inverse_temperature(logits, targets), 4)  # log(3) / 2: as sure as it is right, in 3 of 4
        0.5493
    """
    logits = logits.to(sum_dtype(logits.device))
    own = logits.gather(1, targets[:, None])[:, 0]
    if bool((own == logits.amax(1)).all()):
        return 1.0

    def slope(factor: float) -> float:
        return float(((logits * (factor * logits).softmax(1)).sum(1) - own).mean())

    if slope(0.0) >= 0:
        return 0.0
    low, high = 0.0, 1.0
    while slope(high) < 0:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2
