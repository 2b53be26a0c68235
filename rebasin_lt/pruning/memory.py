"""How much of a mask is that of the initial weights."""

from __future__ import annotations

from rebasin_lt.batches import Network
from rebasin_lt.pruning.magnitude import one_shot_like
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.overlap import expected_overlap


def init_memory(mask: Mask, initial: Network) -> dict[str, float]:
    """The overlap of a mask with the one-shot mask of its network's `initial` weights, and that of chance.

    `iou` is the intersection over union; `chance` is its expectation for masks drawn at random that keep as many
    weights of every tensor. A mask that follows its initialisation fits nothing that was learnt, so no permutation of
    trained units can move it. Raises InputError where the mask does not fit the weights.

        >>> state = {"weight": torch.tensor([[1.0, -4.0], [3.0, 2.0]])}
        >>> rb.init_memory(rb.magnitude_prune(state, rb.Mask.ones_like(state), 0.5), state)["iou"]
        1.0
    """
    own = one_shot_like(initial, mask)
    return {"iou": mask.overlap(own), "chance": expected_overlap(mask, own)}
