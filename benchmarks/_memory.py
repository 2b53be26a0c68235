"""Whether a mask can be moved: what it still holds of the initialisation, and whether kept signs agree."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.schedule import learning_rate_factor
from rebasin_lt.pruning.magnitude import one_shot_like
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.overlap import expected_overlap

State = Mapping[str, Tensor]
_DECAY, _RATE, _MOMENTUM = 5e-4, 0.08, 0.9  # the defaults of `Classifier`


def init_memory(mask: Mask, initial: State) -> dict[str, float]:
    """How much of a mask is the mask of its own initialisation.

    `iou` is the intersection over union of the mask with the one-shot mask of the initial weights, `chance` what it is
    for masks drawn at random with the same number of weights in every tensor. A mask that follows its initialisation
    fits nothing that was learnt, so no permutation of trained units can move it.
    """
    own = one_shot_like(initial, mask)
    return {"iou": mask.overlap(own), "chance": expected_overlap(mask, own)}


def share_left(recipe: Recipe, num_images: int) -> float:
    """The share of the initial weights that weight decay leaves over the dense training.

    exp(-sum over steps of rate · decay / (1 - momentum)): what gradients add is not in it.
    """
    settings = recipe.dense
    steps = num_images // recipe.data.get("batch_size", 128)
    factor = learning_rate_factor(settings.get("lr_schedule", "cosine"), recipe.dense_epochs)
    rates = sum(factor(epoch) for epoch in range(recipe.dense_epochs)) * steps * settings.get("learning_rate", _RATE)
    momentum = settings.get("momentum", _MOMENTUM)
    return math.exp(-rates * settings.get("weight_decay", _DECAY) / (1 - momentum))


def sign_agreement(mask: Mask, ticket: State, reference: State) -> float:
    """The share of the kept weights whose sign in the ticket is that in the reference; chance is one half.

    Mask and ticket are in the order of the reference's units.
    """
    same = sum(int(((ticket[name].sign() == reference[name].sign()) & kept).sum()) for name, kept in mask.items())
    return same / max(1, mask.num_kept)
