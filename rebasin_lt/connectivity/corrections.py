"""What is done to the points between two networks before they are measured, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor, nn

from rebasin_lt.connectivity.batchnorm import batchnorm_layers, reset_batchnorm_of
from rebasin_lt.connectivity.closed_form import closed_form_line
from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.connectivity.repair import RepairedLine, State
from rebasin_lt.errors import InputError

Correction = Literal["none", "bn_reset", "repair", "closed_form", "rescale"]
CORRECTIONS: tuple[Correction, ...] = get_args(Correction)


class Line(NamedTuple):
    """The corrected points between two networks."""

    states: Callable[[Sequence[float]], list[dict[str, Tensor]]]  # at these alphas, of [0, 1]
    num_passes: int  # over the batches, for each call of `states`


def applicable(network: nn.Module) -> list[Correction]:
    """The corrections that change something in this network: of batch norm, or of layers where there is none."""
    return ["none", "bn_reset"] if batchnorm_layers(network) else ["none", "repair", "closed_form", "rescale"]


def corrected_line(
    network: nn.Module, endpoints: tuple[State, State], correction: Correction, batches: Iterable[Any] | None
) -> Line:
    """The line from A to B under a correction. Raises InputError for a correction that is unknown or lacks batches, and
    for closed-form REPAIR and RESCALE of a network with batch norm."""
    if correction not in CORRECTIONS:
        raise InputError(f"correction is {correction!r}, expected one of {', '.join(CORRECTIONS)}")
    if correction == "none":
        return Line(lambda alphas: [interpolate(*endpoints, alpha) for alpha in alphas], 0)
    if batches is None:
        raise InputError(f"correction is {correction!r}, which needs correction_batches: give the training images")
    has_batchnorm = bool(batchnorm_layers(network))
    if correction == "bn_reset" or (correction == "repair" and has_batchnorm):
        return Line(lambda alphas: _reset(network, endpoints, alphas, batches), int(has_batchnorm))
    if has_batchnorm:
        raise InputError(
            f"correction is {correction!r}, but {type(network).__name__} has batch norm, whose statistics are what is "
            "wrong between two networks: use bn_reset"
        )
    if correction == "closed_form":
        return Line(closed_form_line(network, endpoints, batches), 0)
    line = RepairedLine(network, endpoints, batches, means=correction == "repair")
    return Line(line.states, len(line.ends))


def _reset(
    network: nn.Module, endpoints: tuple[State, State], alphas: Sequence[float], batches: Iterable[Any]
) -> list[dict[str, Tensor]]:
    return reset_batchnorm_of(network, batches, [interpolate(*endpoints, alpha) for alpha in alphas])
