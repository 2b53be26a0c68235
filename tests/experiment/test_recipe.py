"""How long the stages of a recipe take."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.pruning.mask import Mask

PAPER = Recipe(targets=(0.8, 0.9, 0.95, 0.97), dense_epochs=200, epochs_per_round=50, sparse_epochs=None)


@pytest.mark.parametrize(
    ("targets", "rounds"), [((0.8,), 8), ((0.9,), 11), ((0.97,), 16), ((0.8, 0.9, 0.95, 0.97), 19)]
)
def test_the_chain_of_pruning_passes_every_target(targets, rounds) -> None:
    """Chains of one target are as long as the published ones."""
    assert replace(PAPER, targets=targets).prune_epochs == 50 * rounds


@pytest.mark.parametrize(("rewind", "epochs"), [("0it", 200), ("1ep", 199), ("100ep", 100), ("199ep", 1)])
def test_sparse_runs_take_what_is_left(rewind, epochs) -> None:
    assert PAPER.epochs_after(rewind) == epochs


@pytest.mark.parametrize("rewind", ["0it", "1ep", "500it", "300ep"])
def test_a_number_of_sparse_epochs_holds_for_every_moment(rewind) -> None:
    assert replace(PAPER, sparse_epochs=35).epochs_after(rewind) == 35


@pytest.mark.parametrize("rewind", ["500it", "200ep", "300ep"])
def test_what_is_left_of_steps_or_of_nothing_cannot_be_told(rewind) -> None:
    message = (
        f"recipe.sparse_epochs is null, which means what 200 dense epochs have left at {rewind}: give moments such as"
    )
    with pytest.raises(InputError, match=message):
        PAPER.epochs_after(rewind)


def test_a_chain_that_starts_from_a_mask_is_shorter(tmp_path) -> None:
    mask = Mask({"weight": torch.arange(100) % 10 < 5})  # half of it is gone
    mask.save(tmp_path / "half.mask.safetensors")
    begun = replace(PAPER, imp={"mask": str(tmp_path / "half.mask.safetensors")})
    imp = IterativeMagnitudePruning(list(PAPER.targets), 50, PAPER.fraction, mask=begun.imp["mask"])
    assert begun.prune_epochs == imp.num_epochs < PAPER.prune_epochs
