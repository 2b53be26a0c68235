"""Diversity and ensembles: zero for copies, symmetric, bounded, equal to numpy, the same however images are split."""

from __future__ import annotations

import math
import socket
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from torch import Tensor, multiprocessing
from torchmetrics.classification import MulticlassCalibrationError

from rebasin_lt.diversity import EnsembleDiversity
from rebasin_lt.errors import InputError

DIVERSITIES = ("disagreement", "kl", "js")


def answers(members: int = 4, images: int = 60, classes: int = 7, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits that lean towards the right class, each member in its own way."""
    generator = torch.Generator().manual_seed(members + images)
    targets = torch.randint(classes, (images,), generator=generator)
    logits = torch.randn(members, images, classes, generator=generator)
    return scale * (logits + torch.nn.functional.one_hot(targets, classes)), targets


def measured(logits: Tensor, targets: Tensor, **settings: Any) -> dict[str, Tensor]:
    metric = EnsembleDiversity(len(logits), **settings)
    metric.update(logits, targets)
    result: dict[str, Tensor] = metric.compute()
    return result


def probabilities(logits: Tensor) -> np.ndarray:
    p = np.exp(logits.double().numpy() - logits.double().numpy().max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 5), st.integers(1, 40), st.integers(2, 12), st.sampled_from([0.1, 3.0, 100.0, 1e4]))
def test_divergences_are_bounded_and_symmetric(members: int, images: int, classes: int, scale: float) -> None:
    result = measured(*answers(members, images, classes, scale))
    assert (result["kl_matrix"] >= 0).all()
    assert ((result["js_matrix"] >= 0) & (result["js_matrix"] <= math.log(2) + 1e-12)).all()
    assert ((result["disagreement_matrix"] >= 0) & (result["disagreement_matrix"] <= 1)).all()
    for name in ("disagreement_matrix", "js_matrix"):
        torch.testing.assert_close(result[name], result[name].T, rtol=1e-12, atol=0)
    for name in DIVERSITIES:
        assert (result[f"{name}_matrix"].diagonal() == 0).all()
        assert result[name].isfinite()


def test_copies_of_a_member_are_the_member() -> None:
    logits, targets = answers(1, 200)
    result = measured(logits.expand(5, -1, -1), targets)
    assert [float(result[name]) for name in DIVERSITIES] == [0, 0, 0]
    assert float(result["ensemble_accuracy"]) == float(result["member_accuracy"][0])
    assert result["member_accuracy"].unique().numel() == 1
    assert float(result["ensemble_ece"]) == pytest.approx(float(result["member_ece"][0]), abs=1e-12)


def test_members_that_never_agree() -> None:
    certain = 50 * torch.eye(3)[:, None].expand(-1, 9, -1)  # member i is certain of class i
    result = measured(certain, torch.zeros(9, dtype=torch.int64))
    assert float(result["disagreement"]) == 1
    assert float(result["js"]) == pytest.approx(math.log(2), rel=1e-12)
    assert float(result["kl"]) == pytest.approx(50, rel=1e-12)
    assert result["member_accuracy"].tolist() == [1, 0, 0]


def test_results_equal_numpy_and_scipy() -> None:
    logits, targets = answers()
    p, y, result = probabilities(logits), targets.numpy(), measured(logits, targets)
    predicted = p.argmax(-1)
    unordered, ordered = list(combinations(range(4), 2)), list(permutations(range(4), 2))
    expected = {
        "disagreement": np.mean([(predicted[i] != predicted[j]).mean() for i, j in unordered]),
        "kl": np.mean([entropy(p[i], p[j], axis=-1).mean() for i, j in ordered]),
        "js": np.mean([(jensenshannon(p[i], p[j], axis=-1) ** 2).mean() for i, j in unordered]),
        "ensemble_accuracy": (p.mean(0).argmax(-1) == y).mean(),
        "num_images": 60,
    }
    assert {name: float(result[name]) for name in expected} == pytest.approx(expected, rel=1e-9)
    assert result["member_accuracy"].numpy() == pytest.approx((predicted == y).mean(-1), rel=1e-12)
    matrix = [[entropy(p[i], p[j], axis=-1).mean() for j in range(4)] for i in range(4)]
    assert result["kl_matrix"].numpy() == pytest.approx(np.array(matrix), rel=1e-9)
    assert 0 < float(result["disagreement"]) < 1


def calibration_error(p: np.ndarray, y: np.ndarray, bins: int) -> float:
    """|accuracy - confidence| of each bin of equal width, weighted by its share of the images."""
    confidence, right = p.max(-1), p.argmax(-1) == y
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(right[which == b].mean() - confidence[which == b].mean()) * (which == b).mean() for b in set(which)]
    return float(np.sum(gaps))


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_calibration_errors_equal_numpy_and_torchmetrics(bins: int) -> None:
    logits, targets = answers(3, 400)
    p, result = probabilities(logits), measured(logits, targets, num_bins=bins)
    found = [*result["member_ece"].tolist(), float(result["ensemble_ece"])]
    sources = [*p, p.mean(0)]
    assert found == pytest.approx([calibration_error(source, targets.numpy(), bins) for source in sources], abs=1e-9)
    for value, source in zip(found, sources, strict=True):
        metric = MulticlassCalibrationError(num_classes=7, n_bins=bins)
        metric.update(torch.from_numpy(source), targets)
        assert value == pytest.approx(float(metric.compute()), abs=1e-6)  # torchmetrics' class counts in fp32


@pytest.mark.parametrize("sizes", [(1,) * 60, (59, 1), (7, 50, 3)])
def test_split_of_the_images_makes_no_difference(sizes: tuple[int, ...]) -> None:
    logits, targets = answers()
    metric = EnsembleDiversity(4)
    for part, answer in zip(logits.split(sizes, 1), targets.split(sizes), strict=True):
        metric.update(part, answer)
    for name, value in measured(logits, targets).items():
        torch.testing.assert_close(metric.compute()[name], value, rtol=1e-12, atol=1e-12)


def test_forward_returns_the_batch_and_keeps_the_rest() -> None:
    logits, targets = answers()
    metric = EnsembleDiversity(4)
    metric.update(logits[:, :20], targets[:20])
    batch = metric(logits[:, 20:], targets[20:])
    torch.testing.assert_close(batch["kl"], measured(logits[:, 20:], targets[20:])["kl"])
    torch.testing.assert_close(metric.compute()["kl"], measured(logits, targets)["kl"])
    metric.reset()
    metric.update(logits[:, :0], targets[:0])
    with pytest.raises(InputError, match="there are no images"):
        metric.compute()


def test_probabilities_that_underflow() -> None:
    """At 1e4 between logits the smaller probability is 0 in fp64; its logarithm is still known."""
    logits = torch.tensor([[[0.0, -1e4, -2e4]], [[-2e4, 0.0, -1e4]]])
    result = measured(logits, torch.tensor([0]))
    assert result["kl_matrix"].tolist() == [[0, 2e4], [1e4, 0]]
    assert float(result["js"]) == pytest.approx(math.log(2), rel=1e-12)
    barely = torch.tensor([[[0.0, -720.0]], [[-720.0, 0.0]]])  # probabilities of e^-720, whose ratio overflows
    assert float(measured(barely, torch.tensor([0]))["js"]) == pytest.approx(math.log(2), rel=1e-12)
    impossible = torch.tensor([[[0.0, -math.inf]], [[-math.inf, 0.0]]])
    result = measured(impossible, torch.tensor([0]))
    assert result["kl_matrix"].tolist() == [[0, math.inf], [math.inf, 0]]
    assert float(result["js"]) == pytest.approx(math.log(2), rel=1e-12)


def test_small_differences_are_not_lost_to_rounding() -> None:
    """For logits that differ by ε in one class, KL and JS are ε² p (1 − p) / 2 and an eighth of ε² p (1 − p)."""
    first = torch.tensor([[[0.3, -0.2, 0.5]]], dtype=torch.float64)
    epsilon = 1e-6
    result = measured(torch.cat([first, first + epsilon * torch.eye(3)[0].double()]), torch.tensor([0]))
    p = float(first.softmax(-1)[0, 0, 0])
    assert float(result["kl"]) == pytest.approx(epsilon**2 * p * (1 - p) / 2, rel=1e-3)
    assert float(result["js"]) == pytest.approx(epsilon**2 * p * (1 - p) / 8, rel=1e-3)


def test_rounding_makes_no_divergence_negative() -> None:
    logits, targets = answers(2, 500)
    logits = logits[:1].double() + 1e-10 * logits.double()
    for image in range(500):
        result = measured(logits[:, image : image + 1], targets[image : image + 1])
        assert (result["kl_matrix"] >= 0).all()
        assert (result["js_matrix"] >= 0).all()


def test_single_member_has_no_pairs() -> None:
    logits, targets = answers(1)
    result = measured(logits, targets)
    assert all(result[name].isnan() for name in DIVERSITIES)
    assert float(result["ensemble_accuracy"]) == float(result["member_accuracy"])


def test_update_changes_no_input() -> None:
    logits, targets = answers()
    before = logits.clone(), targets.clone()
    measured(logits, targets)
    assert torch.equal(logits, before[0])
    assert torch.equal(targets, before[1])


def test_what_cannot_be_right_is_refused() -> None:
    with pytest.raises(InputError, match="num_members is 0, expected at least 1"):
        EnsembleDiversity(0)
    with pytest.raises(InputError, match="num_bins is 0, expected at least 1"):
        EnsembleDiversity(2, num_bins=0)
    metric = EnsembleDiversity(4)
    logits, targets = answers()
    for wrong in (logits[:3], logits[0], logits[:, :5]):
        with pytest.raises(InputError, match=r"logits have shape .* expected \(4, batch, classes\) and \(batch,\)"):
            metric.update(wrong, targets)
    logits[2, 5:8] = math.nan
    metric.update(logits, targets)
    with pytest.raises(InputError, match="member 3 of 4 answers NaN for 3 of 60 images: has its training diverged"):
        metric.compute()


def work(rank: int, world: int, port: int, folder: str) -> None:
    """One process: its share of unequal size in batches, synchronised by torchmetrics, written down."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    logits, targets = answers()
    metric = EnsembleDiversity(4)
    share = slice(0, 13) if rank == 0 else slice(13, 60)
    for part, answer in zip(logits[:, share].split(8, 1), targets[share].split(8), strict=True):
        metric.update(part, answer)
    torch.save(metric.compute(), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_together_measure_all_images(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = int(server.getsockname()[1])
    multiprocessing.spawn(work, (2, port, str(tmp_path)), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in measured(*answers()).items():
            torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)


def test_states_of_two_processes_merge_by_their_reductions() -> None:
    """The same without processes: torchmetrics' own synchronisation over states that another rank would send."""
    logits, targets = answers()
    other = EnsembleDiversity(4)
    other.update(logits[:, 13:], targets[13:])
    theirs = {name: torch.cat(v) if isinstance(v, list) else v for name, v in other.metric_state.items()}
    names = iter(EnsembleDiversity(4).metric_state)
    metric = EnsembleDiversity(
        4, dist_sync_fn=lambda value, group: [value, theirs[next(names)]], distributed_available_fn=lambda: True
    )
    metric.update(logits[:, :13], targets[:13])
    for name, value in measured(logits, targets).items():
        torch.testing.assert_close(metric.compute()[name], value, rtol=1e-12, atol=1e-12)
