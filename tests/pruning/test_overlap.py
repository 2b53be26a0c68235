import itertools
import math
import time

import numpy as np
import pytest
import torch
from scipy.stats import hypergeom

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.overlap import Counts, _expected_iou, _hypergeometric, expected_overlap, overlap_report


def mask_with(kept, sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for index, (count, size) in enumerate(zip(kept, sizes, strict=True)):
        tensors[f"{index}.weight"] = (torch.randperm(size, generator=generator) < count).reshape(size // 2, 2)
    return Mask(tensors)


def every_mask(kept, sizes):
    layers = [list(itertools.combinations(range(size), count)) for count, size in zip(kept, sizes, strict=True)]
    for chosen in itertools.product(*layers):
        bits = torch.zeros(sum(sizes), dtype=torch.bool)
        offset = 0
        for positions, size in zip(chosen, sizes, strict=True):
            bits[[offset + position for position in positions]] = True
            offset += size
        yield bits


@pytest.mark.parametrize(
    ("kept", "other", "sizes"),
    [((2, 1), (3, 2), (6, 4)), ((0, 3), (2, 3), (4, 4)), ((4,), (1,), (4,)), ((3, 1, 1), (3, 0, 2), (6, 2, 4))],
)
def test_equals_the_mean_over_all_masks_with_these_counts(kept, other, sizes):
    mine, theirs = mask_with(kept, sizes), mask_with(other, sizes, seed=1)
    # By symmetry one side may stay fixed.
    fixed = torch.cat([tensor.flatten() for tensor in mine.values()])
    both = [int((fixed & bits).sum()) for bits in every_mask(other, sizes)]
    exact = math.fsum(shared / (sum(kept) + sum(other) - shared) for shared in both) / len(both)
    assert expected_overlap(mine, theirs) == pytest.approx(exact, rel=1e-14)


def test_agrees_with_random_masks():
    kept, other, sizes = (40, 7, 300), (25, 30, 200), (100, 60, 1000)
    fixed = mask_with(other, sizes, seed=1)
    drawn = np.array([mask_with(kept, sizes, seed=seed).overlap(fixed) for seed in range(2, 1002)])
    error = drawn.std() / math.sqrt(len(drawn))
    assert expected_overlap(mask_with(kept, sizes), fixed) == pytest.approx(drawn.mean(), abs=4 * error)


def test_is_not_the_ratio_of_expectations():
    mask = mask_with((2,), (4,))
    assert expected_overlap(mask, mask) == pytest.approx((1 * 0 + 4 / 3 + 1) / 6)
    assert expected_overlap(mask, mask) != pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize(
    "counts", [Counts(10, 3, 4), Counts(50, 50, 7), Counts(9, 0, 4), Counts(30, 20, 25), Counts(5000, 400, 900)]
)
def test_law_of_one_tensor_is_the_hypergeometric(counts):
    law = _hypergeometric(counts, half_width=10_000)
    support = law.start + np.arange(len(law.pmf))
    expected = hypergeom(counts.weights, counts.kept, counts.other).pmf(support)
    np.testing.assert_allclose(law.pmf, expected, rtol=1e-9, atol=1e-300)
    assert expected.sum() == pytest.approx(1)


def test_symmetric_and_one_for_full_masks_and_zero_for_empty_ones():
    mine, theirs = mask_with((3, 9), (8, 20)), mask_with((5, 2), (8, 20), seed=1)
    assert expected_overlap(mine, theirs) == pytest.approx(expected_overlap(theirs, mine), rel=1e-14)
    full, empty = mask_with((8, 20), (8, 20)), mask_with((0, 0), (8, 20))
    assert expected_overlap(full, full) == 1
    assert expected_overlap(empty, empty) == 0 == empty.overlap(empty)
    assert expected_overlap(full, mine) == pytest.approx(12 / 28)


def test_many_millions_of_weights_take_less_than_a_second():
    counts = [Counts(2_359_296, 230_000 + 1000 * index, 240_000) for index in range(11)]
    begin = time.process_time()
    expected = _expected_iou(counts)
    assert time.process_time() - begin < 1
    # So many weights concentrate: Jensen's gap is O(1 / kept).
    shared = sum(one.kept * one.other / one.weights for one in counts)
    ratio = shared / (sum(one.kept + one.other for one in counts) - shared)
    assert expected == pytest.approx(ratio, rel=1e-5)
    variance = sum(hypergeom(*one).var() for one in counts)
    total = sum(one.kept + one.other for one in counts)
    assert expected == pytest.approx(ratio + variance * total / (total - shared) ** 3, rel=1e-10)


def test_window_loses_nothing_that_shows():
    # Small enough to convolve whole laws.
    counts = [Counts(4000, 400, 500), Counts(3000, 1500, 1400), Counts(100, 99, 50)]
    law = np.ones(1)
    for one in counts:
        law = np.convolve(law, hypergeom(*one).pmf(np.arange(min(one.kept, one.other) + 1)))
    shared = np.arange(len(law))
    whole = float(law @ (shared / (sum(one.kept + one.other for one in counts) - shared)))
    assert _expected_iou(counts) == pytest.approx(whole, rel=1e-10)


def test_report_has_one_row_per_tensor():
    mine, theirs = mask_with((3, 9), (8, 20)), mask_with((5, 2), (8, 20), seed=1)
    rows = overlap_report(mine, theirs)
    assert [(row["name"], row["weights"], row["kept"], row["other_kept"]) for row in rows] == [
        ("0.weight", 8, 3, 5),
        ("1.weight", 20, 9, 2),
    ]
    for row in rows:
        one, other = Mask({row["name"]: mine[row["name"]]}), Mask({row["name"]: theirs[row["name"]]})
        assert row["both"] == int((mine[row["name"]] & theirs[row["name"]]).sum())
        assert row["overlap"] == one.overlap(other)
        assert row["expected_overlap"] == expected_overlap(one, other)


@pytest.mark.parametrize("function", [expected_overlap, overlap_report])
def test_masks_of_other_names_or_shapes_are_refused(function):
    mask = mask_with((3, 9), (8, 20))
    with pytest.raises(InputError, match=r"masks name different parameters: \['1.weight'\]"):
        function(mask, mask_with((3,), (8,)))
    with pytest.raises(InputError, match=r"mask for 0.weight has shape \(5, 2\), the network has \(4, 2\)"):
        function(mask, mask_with((3, 9), (10, 20)))
