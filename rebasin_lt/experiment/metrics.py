"""What is measured of a trained network on the test images, and how reports show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class Metric(NamedTuple):
    """All there is to know of a metric that runs record as `test/NAME`."""

    label: str
    heading: str  # of its section in a report
    unit: str  # as it is shown; "" for none
    file: str  # what names of figures begin with
    is_share: bool  # recorded in percent, kept as a fraction in [0, 1], and shown in percent
    better: Literal["higher", "lower"]
    min_classes: int = 0  # datasets with fewer do not show it
    decimals: int = 2  # of means, as they are shown
    alone: bool = False  # kept of runs that record no other, and compared by where there is no other

    @property
    def factor(self) -> int:
        """What a kept value is multiplied by to be shown, and a recorded one divided by to be kept."""
        return 100 if self.is_share else 1

    @property
    def quantity(self) -> str:
        """What stands at an axis: `test accuracy (%)`."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


METRICS: dict[str, Metric] = {
    "top1": Metric("test accuracy", "Accuracy", "%", "accuracy", is_share=True, better="higher"),
    "top5": Metric(
        "top-5 test accuracy", "Top-5 accuracy", "%", "accuracy-top5", is_share=True, better="higher", min_classes=11
    ),
    "loss": Metric("test loss", "Loss", "", "test-loss", is_share=False, better="lower", decimals=4, alone=True),
}
"""The metrics of a run by name, in the order of a report; the first that runs have is what methods are compared by."""

COMPARED = next(iter(METRICS))
"""The metric by which methods are compared in every study of classes."""


def metrics_of(result: Mapping[str, Any]) -> dict[str, float | None]:
    """The metrics out of a run's result, as they are kept; None for one that it does not have.

    One that is kept `alone` is there where a run records that and no other.
    """
    recorded = {name: result.get(f"test/{name}") for name in METRICS}
    found = {name: None if value is None else value / METRICS[name].factor for name, value in recorded.items()}
    others = any(value is not None for name, value in found.items() if not METRICS[name].alone)
    return {name: value for name, value in found.items() if not METRICS[name].alone or not (others or value is None)}
