"""Ways to move masks that were tried."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call

from benchmarks._straight_through import _held_out, _Loss, _Piece, match_by_loss
from benchmarks._votes import vote
from rebasin_lt.matching.soft import matrix_of, soften
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.trace import trace_symmetry


def test_what_most_masks_keep_is_kept_and_ties_are_drawn() -> None:
    masks = [
        Mask({"a": torch.tensor(row, dtype=torch.bool)}) for row in ([[1, 1, 0, 0]], [[1, 0, 1, 0]], [[1, 0, 0, 1]])
    ]
    drawn = [vote(masks, torch.Generator().manual_seed(seed))["a"].tolist()[0] for seed in range(20)]
    assert all(sum(row) == 2 and row[0] for row in drawn)
    assert len({tuple(row) for row in drawn}) == 3
    assert vote(masks[:1] * 3, torch.Generator()) == masks[0]


def test_slopes_are_those_of_the_loss_in_soft_permutations_and_the_best_is_kept() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 3)).double()
    inputs = torch.randn(1000, 10, dtype=torch.float64)
    with torch.no_grad():
        batches = [(part, network(part).argmax(1)) for part in inputs.split(250)]
    symmetry, state = trace_symmetry(network, inputs[:2]), network.state_dict()
    mask = prune_to_sparsity(state, Mask.ones_of(network), 0.5)
    start = symmetry.random(torch.Generator().manual_seed(1))
    loss = _Loss(network, mask, symmetry)
    piece = _Piece((batches[0][0],), batches[0][1])

    matrices = {group: matrix_of(indices).requires_grad_() for group, indices in start.items()}
    masked = {name: state[name] * soften(mask[name].double(), symmetry.axes[name], matrices) for name in mask}
    value = nn.functional.cross_entropy(functional_call(network, masked, piece.inputs), piece.labels)
    expected = torch.autograd.grad(value, list(matrices.values()))
    for found, slope in zip(loss.slopes(start, piece).values(), expected, strict=True):
        torch.testing.assert_close(found, slope)

    held, steps = _held_out(batches, loss.device)
    assert (len(held), steps) == (1, 14)
    learned = match_by_loss(state, network, batches, symmetry, mask, start)
    assert loss.mean(learned, held) < loss.mean(start, held)
    assert match_by_loss(state, network, batches, symmetry, mask, start) == learned
