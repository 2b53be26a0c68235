"""What each shuffle keeps, exactly; that the degree-preserving one draws evenly among all matrices of its sums."""

from itertools import product

import pytest
import torch

from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.mask import Mask, prunable_names
from rebasin_lt.pruning.shuffles import permute_randomly, shuffle_degrees, shuffle_layerwise
from rebasin_lt.symmetry.trace import trace_symmetry


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def counts(mask):
    return {name: int(tensor.sum()) for name, tensor in mask.items()}


def random_mask(shapes, keep):
    return Mask({f"w{index}": torch.rand(shape) < keep for index, shape in enumerate(shapes)})


@pytest.mark.parametrize("shuffle", [shuffle_layerwise, shuffle_degrees])
def test_shuffles_keep_each_layers_count_follow_their_generator_and_leave_the_mask_alone(shuffle):
    mask = random_mask([(20, 30), (8, 4, 3, 3)], 0.3)
    before = Mask({name: tensor.clone() for name, tensor in mask.items()})
    shuffled = shuffle(mask, seeded(0))
    assert counts(shuffled) == counts(mask)
    assert shuffled != mask
    assert shuffled == shuffle(mask, seeded(0))
    assert shuffled != shuffle(mask, seeded(1))
    assert mask == before


def test_layerwise_shuffle_overlaps_as_by_chance():
    mask = random_mask([(200, 300)], 0.2)
    expected = 0.2 / (2 - 0.2)  # two independent masks of density d: d² / (2d − d²)
    assert abs(mask.overlap(shuffle_layerwise(mask)) - expected) < 0.01


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("shape", [(40, 30), (1, 9), (12, 8, 3, 3), (9, 6, 5), (16, 1, 3, 3), (4, 3, 2, 2, 2), (6,)])
def test_both_degree_sequences_stay_at_every_kernel_position(shape, keep):
    rows = torch.rand(shape[0]).reshape(-1, *[1] * (len(shape) - 1))  # some rows hold more than others
    mask = Mask({"w": rows * torch.rand(shape) > 0.5 * (1 - keep)})
    shuffled = shuffle_degrees(mask, seeded(0))
    assert shuffled["w"].shape == shape
    for dim in range(min(2, len(shape))):
        if len(shape) > 1:
            assert torch.equal(shuffled["w"].sum(dim), mask["w"].sum(dim))


def matrices_with_sums_of(matrix):
    """Every binary matrix with the row and column sums of this one."""
    candidates = [
        [bits for bits in product((0, 1), repeat=matrix.shape[1]) if sum(bits) == total]
        for total in matrix.sum(1).tolist()
    ]
    columns = matrix.sum(0).tolist()
    return [rows for rows in product(*candidates) if [sum(column) for column in zip(*rows, strict=True)] == columns]


def test_degree_shuffle_draws_every_matrix_equally_often():
    """In one draw of 4000 copies, each a kernel position; the sums are unequal, and one row is without a partner."""
    start = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]])
    every = matrices_with_sums_of(start)
    copies = 4000
    drawn = shuffle_degrees(Mask({"w": start.bool()[..., None].expand(-1, -1, copies)}), seeded(0))["w"]
    found = [tuple(map(tuple, matrix)) for matrix in drawn.permute(2, 0, 1).int().tolist()]
    hits = torch.tensor([found.count(matrix) for matrix in every], dtype=torch.float64)
    assert hits.sum() == copies
    expected = copies / len(every)
    freedom = len(every) - 1
    assert ((hits - expected) ** 2 / expected).sum() < freedom + 4 * (2 * freedom) ** 0.5
    overlap = float((torch.tensor(every) * start).sum()) / len(every)
    assert float((drawn & start.bool()[..., None]).sum()) / copies == pytest.approx(overlap, abs=0.05)


def test_twenty_trades_forget_the_original():
    """Of regular rows and columns every entry is kept with equal probability: 200 · 0.1² · 300 of 6000 are common."""
    rows = torch.stack([torch.arange(300) % 10 == index % 10 for index in range(200)])
    mask = Mask({"w": rows})
    common = int((shuffle_degrees(mask, seeded(0))["w"] & rows).sum())
    assert common == pytest.approx(600, abs=4 * (6000 * 0.1 * 0.9) ** 0.5)


def test_random_permutation_moves_masks_together_and_keeps_what_a_permutation_keeps():
    network = build_network("resnet20", width=0.5)
    symmetry = trace_symmetry(network, torch.zeros(2, 3, 32, 32), verify=False)
    state = dict(network.named_parameters())
    names = prunable_names(network)
    dense = Mask({name: torch.rand(state[name].shape) < 0.5 for name in names})
    sparse = Mask({name: tensor & (torch.rand(tensor.shape) < 0.3) for name, tensor in dense.items()})
    moved_dense, moved_sparse = permute_randomly([dense, sparse], symmetry, seeded(0))
    assert moved_sparse != sparse
    assert counts(moved_sparse) == counts(sparse)
    assert all(bool((moved_dense[name] | ~moved_sparse[name]).all()) for name in names)  # still one within the other
    for name in names:
        for dim in (0, 1):
            assert moved_sparse[name].sum(dim).flatten().sort()[0].equal(sparse[name].sum(dim).flatten().sort()[0])
    assert moved_sparse == permute_randomly([sparse], symmetry, seeded(0))[0]
    assert moved_sparse == Mask(symmetry.permute(sparse, symmetry.random(seeded(0))))
