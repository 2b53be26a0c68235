"""What one repetition of the experiment trains, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """Settings of the stages dense, prune and sparse. The defaults are the demonstration on digits.

    `data` are the settings of a data module, `dense`, `prune` and `sparse` those of `Classifier` for each stage,
    `trainer` those of the Trainer in every stage, such as its precision.
    """

    data: Mapping[str, Any] = field(default_factory=lambda: {"name": "digits", "batch_size": 50})
    network: Mapping[str, Any] = field(default_factory=lambda: {"arch": "mlp", "width": 1, "num_classes": 10})
    targets: tuple[float, ...] = (0.9, 0.95, 0.98)
    fraction: float = 0.2
    rewind: str = "1ep"
    dense: Mapping[str, Any] = field(default_factory=lambda: {"learning_rate": 0.1})
    prune: Mapping[str, Any] = field(default_factory=lambda: {"learning_rate": 0.05})
    sparse: Mapping[str, Any] = field(default_factory=lambda: {"learning_rate": 0.15, "weight_decay": 0.0})
    dense_epochs: int = 20
    epochs_per_round: int = 5
    sparse_epochs: int = 35
    trainer: Mapping[str, Any] = field(default_factory=dict)
