"""Learning-rate factors by epoch, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

Shape = Literal["cosine", "multistep", "constant"]


def learning_rate_factor(
    shape: Shape, num_epochs: float, *, warmup_epochs: int = 0, milestones: Sequence[int] = (), decay: float = 0.1
) -> Callable[[float], float]:
    """The factor on the peak learning rate as a function of the epochs done, for a schedule of `num_epochs`.

    `cosine` falls to 0 at `num_epochs` (the paper's CIFAR runs), `multistep` multiplies by `decay` at each milestone
    (its ImageNet runs), both after a linear warm-up.
    """

    def factor(epoch: float) -> float:
        if epoch < warmup_epochs:
            return (epoch + 1) / (warmup_epochs + 1)
        if shape == "cosine":
            progress = (epoch - warmup_epochs) / max(num_epochs - warmup_epochs, 1e-9)
            return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        if shape == "multistep":
            return decay ** sum(epoch >= milestone for milestone in milestones)
        return 1.0

    return factor
