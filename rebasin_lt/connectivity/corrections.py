"""What is done to the points between two networks before they are measured, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rebasin_lt.errors import InputError
from rebasin_lt.settings.choices import chosen

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rebasin_lt.judging.losses import Judged

    Endpoints = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]


class Line(NamedTuple):
    """The corrected points between two networks."""

    states: Callable[[Sequence[float]], list[dict[str, Tensor]]]  # at these alphas, of [0, 1]
    num_passes: int  # over the batches, for each call of `states`, and of `factors`
    factors: Callable[[Sequence[nn.Module]], list[float]] | None = None  # on the logits of points; None leaves them


class Correction(NamedTuple):
    """All there is to know of a correction."""

    label: str
    meaning: str
    line: Callable[[nn.Module, Endpoints, Iterable[Any]], Line]
    applies: Callable[[bool], bool]  # to networks with batch norm (True) or without: whether it changes something
    marker: str = "P"
    dashes: tuple[float, ...] = (1, 1)  # of its line in figures, drawn and left out in turn; none for a whole line
    refuses_batchnorm: bool = False
    needs_batches: bool = True
    by_default: bool = True  # measured where no corrections are named
    calibrates: bool = False  # it divides logits, which not every loss is of


def _as_they_are(network: nn.Module, ends: Endpoints, batches: Iterable[Any]) -> Line:
    from rebasin_lt.connectivity.interpolation import interpolate

    return Line(lambda alphas: [interpolate(*ends, alpha) for alpha in alphas], 0)


def _reset(network: nn.Module, ends: Endpoints, batches: Iterable[Any]) -> Line:
    from rebasin_lt.connectivity.batchnorm import batchnorm_layers, reset_batchnorm_of
    from rebasin_lt.connectivity.interpolation import interpolate

    def states(alphas: Sequence[float]) -> list[dict[str, Tensor]]:
        return reset_batchnorm_of(network, batches, [interpolate(*ends, alpha) for alpha in alphas])

    return Line(states, int(bool(batchnorm_layers(network))))


def _repaired(network: nn.Module, ends: Endpoints, batches: Iterable[Any]) -> Line:
    """Of a network with batch norm its reset: that is what REPAIR comes to there."""
    return _reset(network, ends, batches) if _has_batchnorm(network) else _moved(network, ends, batches, means=True)


def _rescaled(network: nn.Module, ends: Endpoints, batches: Iterable[Any]) -> Line:
    return _moved(network, ends, batches, means=False)


def _moved(network: nn.Module, ends: Endpoints, batches: Iterable[Any], means: bool) -> Line:
    from rebasin_lt.connectivity.repair import RepairedLine

    line = RepairedLine(network, ends, batches, means=means)
    return Line(line.states, len(line.ends))


def _closed_form(network: nn.Module, ends: Endpoints, batches: Iterable[Any]) -> Line:
    from rebasin_lt.connectivity.closed_form import closed_form_line

    return Line(closed_form_line(network, ends, batches), 0)


def _calibrated(network: nn.Module, ends: Endpoints, batches: Iterable[Any]) -> Line:
    """The points with their statistics reset, if they have any: there is nothing to calibrate where they are wrong."""
    from rebasin_lt.connectivity.temperature import inverse_temperatures

    line = _reset(network, ends, batches)
    return Line(line.states, line.num_passes + 1, lambda points: inverse_temperatures(points, batches))


CORRECTIONS: dict[str, Correction] = {
    "none": Correction(
        "raw", "The points as they are.", _as_they_are, lambda norm: True, "o", dashes=(), needs_batches=False
    ),
    "bn_reset": Correction(
        "BN reset",
        "Batch norm statistics estimated anew at every point.",
        _reset,
        lambda norm: norm,
        "s",
        dashes=(5, 2),
    ),
    "repair": Correction(
        "REPAIR",
        "Mean and standard deviation of every channel as the ends predict them (arXiv 2211.08403).",
        _repaired,
        lambda norm: not norm,
        "^",
        dashes=(1.5, 1.5),
    ),
    "closed_form": Correction(
        "closed-form REPAIR",
        "The same, computed from the joint moments of the ends instead of measured at every point.",
        _closed_form,
        lambda norm: not norm,
        "D",
        dashes=(4, 1, 1, 1),
        refuses_batchnorm=True,
    ),
    "rescale": Correction(
        "RESCALE",
        "The standard deviations of REPAIR; means stay what they are.",
        _rescaled,
        lambda norm: not norm,
        "v",
        dashes=(8, 3),
        refuses_batchnorm=True,
    ),
    "temperature": Correction(
        "calibrated",
        "Logits divided by the temperature that makes the loss on training images least, at every point, after a reset "
        "of batch norm (arXiv 2510.08023). Errors stay those without it.",
        _calibrated,
        lambda norm: True,
        "X",
        dashes=(3, 1, 1, 1, 1, 1),
        by_default=False,
        calibrates=True,
    ),
}
"""The corrections by name, in the order of every table and figure."""


def correction_label(name: str) -> str:
    """What tables and figures call a correction; the name itself where a result holds one that is not in the table."""
    return CORRECTIONS[name].label if name in CORRECTIONS else name


def applicable(network: nn.Module) -> list[str]:
    """The corrections that change something in this network: of batch norm, or of layers where there is none."""
    return [name for name, record in CORRECTIONS.items() if record.applies(_has_batchnorm(network))]


def check_calibrates(correction: str, judged: Judged, calibrates: bool) -> None:
    """Raise InputError for a correction that divides logits, beside a loss that is not of logits per image."""
    if correction in CORRECTIONS and CORRECTIONS[correction].calibrates and not calibrates:
        raise InputError(
            f"correction is {correction!r}, which fits logits to cross_entropy, but loss is {judged.loss}: leave out "
            "one of them"
        )


def corrected_line(network: nn.Module, endpoints: Endpoints, correction: str, batches: Iterable[Any] | None) -> Line:
    """The line from A to B under a correction. Raises InputError for a correction that is unknown or lacks batches, and
    for closed-form REPAIR and RESCALE of a network with batch norm."""
    record = chosen("correction", correction, CORRECTIONS)
    if batches is None and record.needs_batches:
        raise InputError(f"correction is {correction!r}, which needs correction_batches: give the training images")
    if record.refuses_batchnorm and _has_batchnorm(network):
        raise InputError(
            f"correction is {correction!r}, but {type(network).__name__} has batch norm, whose statistics are what is "
            "wrong between two networks: use bn_reset"
        )
    return record.line(network, endpoints, () if batches is None else batches)


def _has_batchnorm(network: nn.Module) -> bool:
    from rebasin_lt.connectivity.batchnorm import batchnorm_layers

    return bool(batchnorm_layers(network))
