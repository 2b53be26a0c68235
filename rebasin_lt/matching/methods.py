"""The methods of matching, by name: what each looks at, which settings it takes, and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rebasin_lt.errors import InputError
from rebasin_lt.matching.objectives import OBJECTIVES, PRESETS
from rebasin_lt.settings.choices import chosen, imported
from rebasin_lt.settings.user_code import import_function, is_user_code

if TYPE_CHECKING:
    from rebasin_lt.batches import Network
    from rebasin_lt.matching.activation import MatchResult
    from rebasin_lt.pruning.mask import Mask
    from rebasin_lt.symmetry.trace import Symmetry

Counter = Callable[[int, int], None]


class Pair(NamedTuple):
    """What is matched: the source to the reference, and the source's masks, on these batches."""

    source: Network
    reference: Network
    batches: Iterable[Any]  # (images, labels) on the networks' device; none for a method without images
    symmetry: Symmetry
    masks: Mapping[str, Mask]


class MatchingMethod(NamedTuple):
    """All there is to know of a method of matching."""

    match: Callable[[Pair, Mapping[str, Any], int, Counter | None], MatchResult]  # settings, seed, progress
    measure: Callable[[Mapping[str, Any]], str]  # of its settings: what `MatchResult.objective` is
    meaning: str
    uses: tuple[str, ...] = ()  # settings, besides the seed
    needs_images: bool = False


def _by_activations(pair: Pair, settings: Mapping[str, Any], seed: int, progress: Counter | None) -> MatchResult:
    from rebasin_lt.matching.activation import match_activations

    return match_activations(*pair[:4], masks=pair.masks, progress=progress, **settings)


def _activation_measure(settings: Mapping[str, Any]) -> str:
    preset = settings.get("preset")
    return OBJECTIVES[settings["objective"]].measure if preset is None else PRESETS[preset].measure


def _by_weights(meaning: str, function: str = "weight_matching:match_weights", **about: str) -> MatchingMethod:
    """The method of a function of this room that looks at no images, called with `about` beside networks and masks."""

    def match(pair: Pair, settings: Mapping[str, Any], seed: int, progress: Counter | None) -> MatchResult:
        matching = imported(f"matching.{function}")
        found: MatchResult = matching(pair.source, pair.reference, pair.symmetry, masks=pair.masks, seed=seed, **about)
        return found

    return MatchingMethod(match, lambda _: "cosine of the matched weights", meaning)


MATCHING_METHODS: dict[str, MatchingMethod] = {
    "activations": MatchingMethod(
        _by_activations,
        _activation_measure,
        "By what units do on the same images, and by the weights that a mask keeps (arXiv 2505.05143).",
        ("objective", "stream", "weight_mix", "mask_weight_mix", "preset"),
        needs_images=True,
    ),
    "coordinate_descent": _by_weights(
        "By weights, group after group (Git Re-Basin, arXiv 2209.04836, algorithm 1).", method="coordinate_descent"
    ),
    "frank_wolfe": _by_weights(
        "By weights, all groups together, then group after group (C2M3, arXiv 2405.17897).", method="frank_wolfe"
    ),
    "signs": _by_weights(
        "Masks by the signs that they carry, or else those of A, against B's weights; networks as frank_wolfe.",
        "signs:match_signs",
    ),
}
"""The methods by name; the first is the default. `package.module:name` is a function of the user's own, called as
`match(source, reference, batches, symmetry, masks)`, which returns a `MatchResult`."""


def matching_method(name: str, argument: str = "method") -> MatchingMethod:
    """The record of a method; that of the user's own function, which is not imported before it is called, for reports
    read it too. Raises InputError for a name that is neither."""
    if not is_user_code(str(name)):
        return chosen(argument, name, MATCHING_METHODS, "or package.module:name")

    def match(pair: Pair, settings: Mapping[str, Any], seed: int, progress: Counter | None) -> MatchResult:
        return _of_the_users(name, pair, seed)

    return MatchingMethod(match, lambda _: f"as {name} reports it", f"By `{name}`.", needs_images=True)


def import_method(name: str, argument: str = "method") -> Callable[..., Any]:
    """The user's own function. Raises InputError where it cannot be imported, or is none."""
    return import_function(argument, name, "a function match(source, reference, batches, symmetry, masks)")


def _of_the_users(name: str, pair: Pair, seed: int) -> MatchResult:
    """The result of the user's function, with torch's generator seeded for it, and afterwards as it was."""
    from dataclasses import replace

    import torch

    from rebasin_lt.matching.activation import MatchResult

    function = import_method(name)
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        found = function(*pair)
    if not isinstance(found, MatchResult):
        raise InputError(f"method {name} returned a {type(found).__name__}, expected a MatchResult")
    for permutation in (found.permutation, *found.masked.values()):
        pair.symmetry.permute({}, permutation)  # refuses other groups and sizes, with both values
    return replace(found, masked={mask: found.masked.get(mask, found.permutation) for mask in pair.masks})
