"""A network with a clock, for trainers that one cannot stop in between."""

from __future__ import annotations

import time

from torch import Tensor, nn

EVERY = 100  # calls: to read the clock takes as long as a step on some machines
ticks: list[float] = []
"""Seconds of the processor's time at every hundredth call of the network in training."""


class Clocked(nn.Module):
    """Two small layers for digits."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            if self.calls % EVERY == 0:
                ticks.append(time.process_time())
        logits: Tensor = self.layers(images)
        return logits
