"""What activation matching maximises: how alike two units are at one point, by name."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from rebasin_lt.errors import InputError
from rebasin_lt.settings.choices import check_known, chosen, imported

if TYPE_CHECKING:
    from torch import Tensor

    from rebasin_lt.matching.moments import UnitMoments
    from rebasin_lt.matching.reached import ReachedUnits


class Objective(NamedTuple):
    """All there is to know of an objective."""

    similarity: Callable[[Any], Tensor]  # of `CrossMoments`: (reference units, source units), fp64; where both are live
    power: Callable[[UnitMoments | ReachedUnits], Tensor]  # the mean over units of similarity with itself, (), fp64
    measure: str  # the mean over matched pairs, in words
    meaning: str


OBJECTIVES: dict[str, Objective] = {
    "correlation": Objective(
        lambda moments: moments.correlation(),
        lambda side: side.std.new_ones(()),  # of dead units too
        "mean correlation of matched pairs",
        "The Pearson correlation, which ignores the scale of each unit (arXiv 2505.05143, Eq. 1).",
    ),
    "covariance": Objective(
        lambda moments: moments.covariance(),
        lambda side: (side.std.square() * side.live).mean(),
        "mean covariance of matched pairs",
        "The covariance: centred, but not normalised.",
    ),
    "raw": Objective(
        lambda moments: moments.second_moments(),
        lambda side: ((side.std.square() + side.mean.square()) * side.live).mean(),
        "mean product of matched pairs",
        "The mean product, neither centred nor normalised (Git Re-Basin, arXiv 2209.04836, section 3.1).",
    ),
}
"""The objectives by name; the first is the default."""


class Preset(NamedTuple):
    """A statistic of its own, with the points at which it is taken: it sets objective, stream and both mixes."""

    moments: Callable[[], type[Any]]
    points: Callable[[Any], Any]  # of a symmetry: the observations of each group that count
    measure: str
    meaning: str


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        lambda: imported("matching.paper:PaperMoments"),
        lambda symmetry: imported("matching.paper:paper_points")(symmetry),
        "mean correlation of matched pairs, as published",
        "The published ResNet20 matching, flaws included, for comparison only.",
    ),
}


MASK_WEIGHT_MIX = 0.5
"""The default share of weights in matching for a mask: docs/matching.md has the measurements behind it."""

STREAMS = ("sum", "last")
"""Points at which a residual stream counts: all of them, or the last; the first is the default."""


def check_activation_settings(
    objective: str, stream: str, weight_mix: float, mask_weight_mix: float, preset: str | None
) -> None:
    """Raise InputError for an argument of `match_activations` with a value it cannot have."""
    chosen("objective", objective, OBJECTIVES)
    check_known("stream", stream, STREAMS)
    for name, share in (("weight_mix", weight_mix), ("mask_weight_mix", mask_weight_mix)):
        if not isinstance(share, Real) or isinstance(share, bool) or not 0 <= share <= 1:
            raise InputError(f"{name} is {share!r}, expected a number from 0 (activations) to 1 (weights)")
    if preset is None:
        return
    chosen("preset", preset, PRESETS)
    for name, given, default in (
        ("objective", objective, next(iter(OBJECTIVES))),
        ("stream", stream, STREAMS[0]),
        ("weight_mix", weight_mix, 0.0),
        ("mask_weight_mix", mask_weight_mix, MASK_WEIGHT_MIX),
    ):
        if given != default:
            raise InputError(f"{name} is {given!r}, but preset {preset!r} sets it: expected its default {default!r}")
