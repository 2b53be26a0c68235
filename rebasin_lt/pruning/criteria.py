"""The criteria of pruning: what a weight is worth. Those of the lowest score go first, over all layers together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rebasin_lt.errors import InputError
from rebasin_lt.settings.choices import chosen
from rebasin_lt.settings.user_code import import_function, is_user_code

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rebasin_lt.pruning.mask import Mask

Scores = Callable[["nn.Module", Iterable[Any]], Mapping[str, "Tensor"]]
"""`scores(network, batches)`: by parameter name a floating tensor of the parameter's shape, finite; `batches` are pairs
of (inputs, labels). The network is left as it is. Lots are drawn from torch's global generator, which is seeded."""


class Criterion(NamedTuple):
    """All there is to know of a criterion."""

    scores: Scores
    meaning: str
    needs_batches: bool = True  # else it is called with none


def _magnitude(network: nn.Module, batches: Iterable[Any]) -> dict[str, Tensor]:
    return {name: weight.detach().abs() for name, weight in network.named_parameters()}


def _layerwise_magnitude(network: nn.Module, batches: Iterable[Any]) -> dict[str, Tensor]:
    """The rank of |w| in its tensor, as a share of the tensor's weights, in (0, 1], fp64.

    What is pruned is zero, so its ranks are the lowest, and every layer comes to one sparsity, to within a weight.
    """
    import torch

    scores = {}
    for name, weight in network.named_parameters():
        order = weight.detach().abs().reshape(-1).cpu().argsort(stable=True)
        ranks = torch.empty(len(order), dtype=torch.float64)
        ranks[order] = torch.arange(1, len(order) + 1, dtype=torch.float64)
        scores[name] = (ranks / len(order)).reshape(weight.shape)
    return scores


def _random(network: nn.Module, batches: Iterable[Any]) -> dict[str, Tensor]:
    import torch

    return {name: torch.rand(weight.shape, dtype=torch.float64) for name, weight in network.named_parameters()}


def _taylor(network: nn.Module, batches: Iterable[Any]) -> dict[str, Tensor]:
    from rebasin_lt.pruning.saliency import taylor_scores

    return taylor_scores(network, batches)


CRITERIA: dict[str, Criterion] = {
    "magnitude": Criterion(_magnitude, "The largest weights stay.", needs_batches=False),
    "layerwise_magnitude": Criterion(
        _layerwise_magnitude, "The largest weights of every layer stay, the same share in each.", needs_batches=False
    ),
    "random": Criterion(_random, "Weights stay by lot.", needs_batches=False),
    "taylor": Criterion(_taylor, "The weights stay whose removal would change the loss most, by its first derivative."),
}
"""The criteria by name; the first is the default. `package.module:name` is a function `Scores` of the user's own."""


def criterion_named(name: str, argument: str = "criterion") -> Criterion:
    """The record of a criterion, or that of the user's own function. Raises InputError for a name that is neither."""
    if not is_user_code(str(name)):
        return chosen(argument, name, CRITERIA, "or package.module:name")
    return Criterion(import_function(argument, name, "a function scores(network, batches)"), f"By `{name}`.")


def prune_by(
    criterion: str, network: nn.Module, batches: Iterable[Any], mask: Mask, sparsity: float, seed: int = 0
) -> Mask:
    """Remove the kept weights of lowest score until exactly round(sparsity · weights) of the mask's are gone.

    Units under weight norm keep their best weight. `batches` are read by criteria that need any; what draws lots does
    so by `seed`. The network is left as it is, and so is torch's generator. Ties as in `remove_lowest`. Raises
    InputError for an unknown criterion, for scores that do not fit or are not finite, and as `removals`.

        >>> network = rb.build_network("mlp")
        >>> mask = rb.prune_by("layerwise_magnitude", network, (), rb.Mask.ones_of(network), 0.5)
        >>> [row["sparsity"] for row in mask.report()]
        [0.5, 0.5, 0.5, 0.5]
    """
    from rebasin_lt.batches import network_of
    from rebasin_lt.pruning.ranking import removals, remove_lowest
    from rebasin_lt.pruning.weight_norm import keep_directions

    network = network_of(network)
    record, count = criterion_named(criterion), removals(mask, sparsity)
    scores = _drawn(record, network, batches, seed)
    _check(criterion, scores, mask)
    return remove_lowest(keep_directions(network, scores, mask), mask, count)


def _drawn(record: Criterion, network: nn.Module, batches: Iterable[Any], seed: int) -> Mapping[str, Tensor]:
    """The scores, with the generator seeded for them and afterwards as it was."""
    import torch

    devices = {weight.device for weight in network.parameters() if weight.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        return record.scores(network, batches if record.needs_batches else ())


def _check(criterion: str, scores: Mapping[str, Tensor], mask: Mask) -> None:
    for name, kept in mask.items():
        found = scores.get(name)
        if found is None or found.shape != kept.shape or not found.is_floating_point():
            text = "no scores" if found is None else f"scores of shape {tuple(found.shape)} and {found.dtype}"
            raise InputError(
                f"criterion {criterion} gives {text} for {name}, expected floats of shape {tuple(kept.shape)}"
            )
