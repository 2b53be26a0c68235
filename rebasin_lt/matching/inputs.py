"""Inputs that do not look like those of training: a mistake that nothing else would show."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

from torch import Tensor

from rebasin_lt.feeding.forward_call import ForwardCall


def watched(calls: Iterable[ForwardCall]) -> Iterator[ForwardCall]:
    """The calls, the first of which is looked at as it passes (`warn_if_unnormalised`)."""
    for index, call in enumerate(calls):
        if index == 0:
            for inputs in call.tensors:
                warn_if_unnormalised(inputs)
        yield call


def warn_if_unnormalised(inputs: Tensor) -> None:
    """Warn where inputs look like images, shape (batch, 1 or 3, height, width), and no pixel is negative.

    Pixels from 0 to 255, or scaled to [0, 1], are so; with the mean of training subtracted they are not. It is no
    error, for a network may have been trained on such, or normalise by itself. Other inputs, such as tokens, pass, and
    so do integers: they are what the network normalises by itself, or it refuses them.
    """
    if inputs.dim() != 4 or inputs.shape[1] not in {1, 3} or not inputs.numel() or not inputs.is_floating_point():
        return
    low, high = (float(value) for value in inputs.aminmax())
    if low >= 0 and high > low:
        mean, std = float(inputs.double().mean()), float(inputs.double().std())
        warnings.warn(
            f"images run from {low:.3g} to {high:.3g} (mean {mean:.3g}, standard deviation {std:.3g}), and normalised "
            "ones have mean 0 and standard deviation 1: give them as the networks were trained on them",
            stacklevel=2,
        )
