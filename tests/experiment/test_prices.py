"""The price of one more network."""

from __future__ import annotations

from rebasin_lt.experiment.prices import Price, price_of
from rebasin_lt.experiment.recipe import Recipe

RECIPE = Recipe(targets=(0.5, 0.75), fraction=0.5, dense_epochs=20, epochs_per_round=3, sparse_epochs=None)


def test_sparse_epochs_are_those_that_the_moment_leaves() -> None:
    assert price_of("naive", "5ep", RECIPE, {}) == Price(5, 0, 15)
    assert price_of("b_imp", "5ep", RECIPE, {}) == Price(20, 6, 15)
    assert price_of("b_imp", "5ep", RECIPE, {}).total == 41


def test_a_moment_in_steps_takes_the_steps_of_an_epoch() -> None:
    matchers = {"early": {"at": "50it"}}
    assert price_of("early", "1ep", RECIPE, matchers) is None
    assert price_of("early", "1ep", RECIPE, matchers, 20) == Price(2.5, 0, 19)
    assert price_of("early+own", "1ep", RECIPE, matchers) == Price(20, 0, 19)  # whenever it is
    assert price_of("naive", "0it", RECIPE, {}) == Price(0, 0, 20)


def test_signs_of_the_ticket_cost_nothing_and_those_of_b_their_moment() -> None:
    matchers = {"early": {"at": "2ep"}}
    assert price_of("early+mask", "1ep", RECIPE, matchers) == price_of("early", "1ep", RECIPE, matchers)
    assert price_of("early+own@1ep", "1ep", RECIPE, matchers) == price_of("early", "1ep", RECIPE, matchers)
    assert price_of("naive+own@7ep", "1ep", RECIPE, matchers) == Price(7, 0, 19)
