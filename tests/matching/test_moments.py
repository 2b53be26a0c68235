"""Streaming moments equal the one-shot formulae, however the samples are cut, merged and scaled."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.matching import moments
from rebasin_lt.matching.moments import CrossMoments

ROWS, UNITS = 60, 5


def samples(mean: float = 0.0, std: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Correlated activations of source and reference, with the given mean and standard deviation."""
    generator = torch.Generator().manual_seed(1)
    source = torch.randn(ROWS, UNITS, generator=generator, dtype=torch.float64)
    noise = torch.randn(ROWS, UNITS, generator=generator, dtype=torch.float64)
    reference = source[:, [2, 0, 1, 4, 3]] + 0.5 * noise
    return (mean + std * source).to(dtype), (mean + std * reference).to(dtype)


def streamed(source: Tensor, reference: Tensor, cuts: list[int]) -> CrossMoments:
    moments = CrossMoments(source.shape[1])
    for start, stop in pairwise([0, *sorted(cuts), len(source)]):
        moments.update(source[start:stop], reference[start:stop])
    return moments


def numpy_correlation(source: Tensor, reference: Tensor) -> Tensor:
    full = np.corrcoef(reference.double().numpy(), source.double().numpy(), rowvar=False)
    return torch.from_numpy(full[: reference.shape[1], reference.shape[1] :])


def assert_near(actual: Tensor, expected: Tensor, atol: float) -> None:
    worst = float((actual - expected).abs().max())
    assert worst <= atol, f"differs by {worst:.3g}, allowed {atol:.3g}"


def assert_same_moments(first: CrossMoments, second: CrossMoments, atol: float = 1e-12) -> None:
    assert first.count == second.count
    assert_near(first.correlation(), second.correlation(), atol)
    assert_near(first.source.mean, second.source.mean, atol)
    assert_near(first.reference.std, second.reference.std, atol)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1e4, 1e-2), (-3.0, 1e-6), (0.0, 1e6)])
@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(0, ROWS), max_size=8))
def test_correlation_equals_numpy_for_any_cut(mean: float, std: float, cuts: list[int]) -> None:
    source, reference = samples(mean, std)
    assert_near(streamed(source, reference, cuts).correlation(), numpy_correlation(source, reference), 1e-10)


@pytest.mark.parametrize("cuts", [[], [1], [7, 8, 40]])
def test_covariance_means_and_stds_equal_numpy(cuts: list[int]) -> None:
    source, reference = samples(3.0, 2.0)
    moments = streamed(source, reference, cuts)
    expected = np.cov(reference.numpy(), source.numpy(), rowvar=False, bias=True)[:UNITS, UNITS:]
    assert_near(moments.covariance(), torch.from_numpy(expected), 1e-12)
    assert_near(moments.source.mean, source.mean(0), 1e-12)
    assert_near(moments.reference.std, reference.std(0, correction=0), 1e-12)


def test_fp32_samples_are_accumulated_in_fp64() -> None:
    source, reference = samples(10.0, 1.0, torch.float32)
    moments = streamed(source, reference, list(range(1, ROWS)))
    assert moments.products.dtype == torch.float64
    assert_near(moments.correlation(), numpy_correlation(source, reference), 1e-6)


def test_fp32_samples_with_a_large_mean_keep_their_correlation() -> None:
    source, reference = samples(1e4, 10.0, torch.float32)
    assert_near(streamed(source, reference, [20]).correlation(), numpy_correlation(source, reference), 1e-5)


def test_half_precision_samples_are_multiplied_in_fp32() -> None:
    source, reference = samples(dtype=torch.bfloat16)
    assert_near(streamed(source, reference, [20]).correlation(), numpy_correlation(source, reference), 1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4 / 3, -7e-5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_units_correlate_with_nothing(constant: float, dtype: torch.dtype) -> None:
    source, reference = samples(dtype=dtype)
    source[:, 1] = constant
    reference[:, 3] = constant
    moments = streamed(source, reference, [3, 10, 41])
    correlation = moments.correlation()
    assert bool(torch.isfinite(correlation).all())
    assert not correlation[:, 1].any()
    assert not correlation[3].any()
    assert moments.source.live.tolist() == [True, False, True, True, True]
    assert moments.reference.live.tolist() == [True, True, True, False, True]


def test_unit_that_varies_only_by_rounding_is_dead() -> None:
    source, reference = samples(dtype=torch.float32)
    source[:, 0] = 1000.0
    source[::2, 0] = torch.nextafter(torch.tensor(1000.0), torch.tensor(2000.0))
    assert not streamed(source, reference, []).source.live[0]


def test_unit_that_comes_alive_after_the_first_batch_is_live() -> None:
    source, reference = samples()
    source[:30, 2] = 0.0
    moments = streamed(source, reference, [30])
    assert bool(moments.source.live[2])
    assert_near(moments.correlation(), numpy_correlation(source, reference), 1e-10)


def test_nan_activations_stay_nan() -> None:
    source, reference = samples()
    source[5, 2] = float("nan")
    assert bool(streamed(source, reference, [3]).correlation()[:, 2].isnan().all())


def test_correlation_ignores_the_scale_of_each_unit() -> None:
    source, reference = samples()
    scaled = source * torch.tensor([1e-6, 1.0, 1e3, 7.0, 0.1], dtype=torch.float64)
    assert_near(streamed(scaled, reference, []).correlation(), streamed(source, reference, []).correlation(), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layout_of_samples_does_not_matter(dtype: torch.dtype) -> None:
    """Channels first, channels last and rows: the same samples, whatever the dimensions and the memory."""
    source, reference = samples(3.0, 1.0, dtype)
    rows = streamed(source, reference, [20])
    for layout in (torch.contiguous_format, torch.channels_last):
        moments = CrossMoments(UNITS)
        for part in (slice(0, 20), slice(20, 60)):
            maps = [side[part].reshape(-1, 2, 5, UNITS).movedim(-1, 1) for side in (source, reference)]
            moments.update(*(side.contiguous(memory_format=layout).movedim(1, -1) for side in maps))
        assert_same_moments(moments, rows, 1e-12 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("block", [1, 13, 64])
def test_blocks_of_any_size_add_up(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rebasin_lt.matching.moments._CPU_BLOCK", block)
    source, reference = samples(1e4, 1e-2)
    moments = streamed(source, reference, [7, 40])
    assert moments.count == ROWS
    assert_near(moments.correlation(), numpy_correlation(source, reference), 1e-10)


def test_neither_autocast_nor_matmul_precision_touches_the_products() -> None:
    generator = torch.Generator().manual_seed(0)
    source, reference = (torch.randn(512, 64, generator=generator) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            moments = streamed(source, reference, [])
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert_near(moments.correlation(), numpy_correlation(source, reference), 1e-6)


def test_memory_is_bounded_by_units_and_not_by_samples() -> None:
    moments = CrossMoments(UNITS)
    sizes = set()
    for _ in range(3):
        moments.update(*samples())
        held = [*vars(moments.source).values(), *vars(moments.reference).values(), moments.products]
        tensors = [value for value in held if isinstance(value, Tensor)]
        assert all(tensor.untyped_storage().nbytes() == 8 * tensor.numel() for tensor in tensors)
        sizes.add(sum(tensor.numel() for tensor in tensors))
    assert sizes == {UNITS**2 + 6 * UNITS}


def test_update_rejects_activations_of_different_shapes() -> None:
    with pytest.raises(InputError, match=r"shapes \(4, 5\) and \(4, 6\), expected twice \(samples, 5\)"):
        CrossMoments(5).update(torch.zeros(4, 5), torch.zeros(4, 6))


def test_matrices_that_are_made_some_rows_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = streamed(*samples(mean=3.0), [7, 20])
    kinds = (CrossMoments.covariance, CrossMoments.second_moments, CrossMoments.correlation)
    whole = [kind(streams.all_reduce()) for kind in kinds]
    monkeypatch.setattr(moments, "_MATRIX_BLOCK", 2 * UNITS)  # 5 rows in blocks of 2, 2 and 1
    for kind, expected in zip(kinds, whole, strict=True):
        assert torch.equal(kind(streams.all_reduce()), expected)
