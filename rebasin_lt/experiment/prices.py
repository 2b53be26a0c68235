"""The price of one more sparse network, in epochs of training, told from the settings of a study alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rebasin_lt.experiment.methods import ENSEMBLES, fixed_methods
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.experiment.signed_methods import moments_of_b, read_method
from rebasin_lt.moment import END, Moment

OF_A = "A"
"""What the row of prices is called that every other is beyond."""


class Price(NamedTuple):
    """Epochs of training by kind. A sparse epoch is counted as a whole one: masks simulate sparsity."""

    dense: float
    pruning: float
    sparse: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.dense + self.pruning + self.sparse


def price_of(
    name: str,
    rewind: str,
    recipe: Recipe,
    matchers: Mapping[str, Mapping[str, Any]],
    steps_per_epoch: int | None = None,
) -> Price | None:
    """The epochs that one more network by a method costs: one more B, beyond A.

    B is trained to the latest moment that the method needs of it: the rewind moment, that of its matcher, that of its
    own signs, or its end. `dense` and `imp` are B itself and its own ticket, as ensembles compare them. None where a
    moment in steps cannot be told in epochs, for `steps_per_epoch` is not given.

    With 20 dense epochs, 35 sparse ones and 8 rounds of pruning of 5, a matcher at 2ep and one at the end:

    >>> recipe = Recipe(targets=(0.8,), dense_epochs=20, epochs_per_round=5, sparse_epochs=35)
    >>> matchers = {"early": {"at": "2ep"}, "permuted": {}}
    >>> names = ["lth", "naive", "early+mask", "early+own@5ep", "permuted", "b_magnitude", "b_imp", "imp"]
    >>> for name in names:
    ...     print(name, *price_of(name, "1ep", recipe, matchers))
    lth 0 0 35
    naive 1 0 35
    early+mask 2 0 35
    early+own@5ep 5 0 35
    permuted 20 0 35
    b_magnitude 20 0 35
    b_imp 20 40 35
    imp 20 40 0
    """
    moments = [_epochs(moment, recipe, steps_per_epoch) for moment in moments_of_b(name, rewind, matchers)]
    dense = max((count for count in moments if count is not None), default=0)
    if None in moments and dense < recipe.dense_epochs:
        return None
    if name in ENSEMBLES:
        return Price(dense, recipe.prune_epochs if name == "imp" else 0, 0)
    base = fixed_methods().get(read_method(name).base)
    pruning = recipe.prune_epochs if base is not None and base.mask == "b" else 0
    return Price(dense, pruning, recipe.epochs_after(rewind))


def price_of_a(recipe: Recipe) -> Price:
    """What is paid once, whatever is made of it: A and its pruning.

    >>> price_of_a(Recipe(targets=(0.8,), dense_epochs=20, epochs_per_round=5))
    Price(dense=20, pruning=40, sparse=0)
    """
    return Price(recipe.dense_epochs, recipe.prune_epochs, 0)


def _epochs(moment: str, recipe: Recipe, steps_per_epoch: int | None) -> float | None:
    if moment == END:
        return recipe.dense_epochs
    parsed = Moment.parse(moment)
    if parsed.unit == "it" and parsed.count and steps_per_epoch is None:
        return None
    return parsed.epochs(steps_per_epoch or 1)
