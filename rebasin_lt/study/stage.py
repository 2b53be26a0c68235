"""One folder of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One folder of a study.

    `needs` are the paths of stages that must be complete before; `outputs`, files in its folder; `inputs`, the outputs
    of others that it is made from, below the study's folder.
    """

    path: str
    kind: str
    width: float
    epochs: int = 0
    needs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
