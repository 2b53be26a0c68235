"""The objectives of activation matching: each is what it says, and every argument is checked."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from planting import images, mlp, noisy, planted, randomised, residual_net, symmetry_of, vgg_like
from torch import Tensor, nn

from rebasin_lt.errors import InputError
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.assignment import solve_assignment
from rebasin_lt.matching.coordinate_ascent import cosine_scale
from rebasin_lt.matching.moments import CrossMoments
from rebasin_lt.matching.paper import PaperMoments, paper_points
from rebasin_lt.matching.similarity import group_similarity
from rebasin_lt.matching.weight import inner_product, weight_names

ROWS, UNITS = 40, 6


def samples(dead: bool = False) -> tuple[Tensor, Tensor]:
    """Positive activations of source and reference, shape (rows, units); unit 1 of the source is constant if dead."""
    generator = torch.Generator().manual_seed(0)
    source, reference = (torch.rand(ROWS, UNITS, generator=generator, dtype=torch.float64) for _ in range(2))
    source, reference = 3 * source + torch.arange(UNITS), (reference + source) * torch.arange(1, UNITS + 1)
    if dead:
        source[:, 1] = 2.5
    return source, reference


def moments_of(source: Tensor, reference: Tensor, cuts: tuple[int, ...] = (7, 20)) -> CrossMoments:
    moments = CrossMoments(UNITS)
    for ours, theirs in zip(source.tensor_split(cuts), reference.tensor_split(cuts), strict=True):
        moments.update(ours, theirs)
    return moments


def test_covariance_and_raw_similarity_equal_numpy() -> None:
    source, reference = samples()
    moments = moments_of(source, reference)
    covariance = np.cov(reference.numpy(), source.numpy(), rowvar=False, bias=True)[:UNITS, UNITS:]
    raw = reference.numpy().T @ source.numpy() / ROWS
    for objective, expected in (("covariance", covariance), ("raw", raw)):
        matrix = group_similarity(UNITS, [moments], objective).matrix
        assert np.abs(matrix.numpy() - expected).max() <= 1e-12


@pytest.mark.parametrize("objective", ["correlation", "covariance", "raw"])
def test_dead_units_have_no_similarity_and_live_ones_keep_theirs(objective: str) -> None:
    dead, alive = (group_similarity(UNITS, [moments_of(*samples(dead))], objective).matrix for dead in (True, False))
    others = torch.arange(UNITS) != 1
    assert not dead[:, 1].any()
    assert torch.equal(dead[:, others], alive[:, others])


@pytest.mark.parametrize("objective", ["correlation", "covariance", "raw"])
def test_scaled_similarity_is_in_units_of_a_correlation(objective: str) -> None:
    """A network with itself, seen at two points: matched units add up to their number."""
    source, _ = samples()
    found = group_similarity(UNITS, [moments_of(source * s, source * s) for s in (1, 5)], objective)
    assert float(found.matrix.trace()) * found.scale == pytest.approx(UNITS, rel=1e-12)


def test_similarity_is_summed_over_observations() -> None:
    moments = moments_of(*samples())
    one, two = (group_similarity(UNITS, [moments] * n, "covariance") for n in (1, 2))
    assert torch.equal(two.matrix, 2 * one.matrix)
    assert two.mean(torch.arange(UNITS)) == pytest.approx(one.mean(torch.arange(UNITS)), rel=1e-14)


def test_nothing_observed_is_nothing_alike() -> None:
    found = group_similarity(3, [], "covariance")
    indices = torch.arange(3)
    assert (found.scale, found.mean(indices), bool(found.live_pairs(indices).any())) == (0, 0, False)


def rescaled(network: nn.Sequential, factors: Tensor) -> nn.Sequential:
    """The mlp with the units of its first layer scaled; what reads them undoes it."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        network[1].weight *= factors[:, None]
        network[1].bias *= factors
        network[3].weight /= factors
    return network


def test_correlation_matching_ignores_a_rescaling_of_units_and_covariance_does_not() -> None:
    source, reference = randomised(mlp, 0), randomised(mlp, 1)
    factors, batches = 10 ** (4 * torch.rand(24, dtype=torch.float64) - 2), images(40, 20)
    found = {
        objective: [
            match_activations(network, reference, batches, symmetry_of(mlp), objective=objective).permutation
            for network in (source, rescaled(source, factors))
        ]
        for objective in ("correlation", "covariance")
    }
    live = match_activations(source, reference, batches, symmetry_of(mlp)).live
    assert all(torch.equal(*(p[group][live[group]] for p in found["correlation"])) for group in live)
    assert found["covariance"][0] != found["covariance"][1]


def joint_objective(source: nn.Module, reference: nn.Module, batches: list[Tensor], mix: float, permutation) -> float:
    """Plainly, for the mlp: correlations of matched units, and cosines of what each group acts on."""
    symmetry, value = symmetry_of(mlp), 0.0
    for k, group in enumerate(symmetry.groups):
        ours, theirs = (net[: 3 + 2 * k](torch.cat(batches)).detach().numpy() for net in (source, reference))
        with np.errstate(invalid="ignore"):
            size = symmetry.groups[group]
            correlation = np.nan_to_num(np.corrcoef(theirs, ours, rowvar=False)[:size, size:])
        value += (1 - mix) * correlation[np.arange(size), permutation[group].numpy()].sum()
        names = weight_names(symmetry, source.state_dict(), group)
        states = symmetry.permute(source.state_dict(), permutation), reference.state_dict()
        flat = [torch.cat([state[name].flatten() for name in names]) for state in states]
        value += mix * size * float(torch.cosine_similarity(*flat, 0))
    return value


@pytest.mark.parametrize("mix", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_weight_mix_climbs_the_joint_objective_to_a_local_optimum(mix: float, seed: int) -> None:
    source, reference, batches = randomised(mlp, seed), randomised(mlp, seed + 50), images(40, 20)
    start, found = (
        match_activations(source, reference, batches, symmetry_of(mlp), weight_mix=share).permutation
        for share in (0.0, mix)
    )
    value = joint_objective(source, reference, batches, mix, found)
    assert value > joint_objective(source, reference, batches, mix, start)
    for group, size in symmetry_of(mlp).groups.items():
        for i in range(0, size - 1, 3):
            swapped = found[group].clone()
            swapped[[i, i + 1]] = swapped[[i + 1, i]]
            assert joint_objective(source, reference, batches, mix, {**found, group: swapped}) <= value + 1e-9


def test_weight_mix_weighs_activations_against_weights() -> None:
    source, reference, symmetry = randomised(residual_net, 0), randomised(residual_net, 1), symmetry_of(residual_net)
    names = weight_names(symmetry, source.state_dict())
    states, batches = (source.state_dict(), reference.state_dict()), images(40)
    results = [match_activations(source, reference, batches, symmetry, weight_mix=mix) for mix in (0, 0.5, 1)]
    by_weight = [inner_product(names, *states, symmetry, result.permutation) for result in results]
    by_activation = [sum(result.objective.values()) for result in results]
    assert by_weight == sorted(by_weight)
    assert by_activation == sorted(by_activation, reverse=True)
    assert by_weight[0] < by_weight[1]


def test_weight_mix_settles_dead_units_by_their_weights() -> None:
    source = randomised(vgg_like, 1)
    with torch.no_grad():
        source[0].bias[[1, 4, 9]] = -100.0
    reference, permutation = noisy(source, symmetry_of(vgg_like), 1)
    result = match_activations(source, reference, images(200), symmetry_of(vgg_like), weight_mix=0.3)
    assert int((~result.live["0.weight"]).sum()) == 3
    assert result.permutation == permutation


def test_cosine_scale_of_a_network_with_itself_is_one_over_its_squared_norm() -> None:
    state = randomised(mlp, 0).state_dict()
    squares = sum(float(state[name].square().sum()) for name in ("1.weight", "1.bias", "3.weight"))
    assert cosine_scale("1.weight", state, state, symmetry_of(mlp)) == pytest.approx(1 / squares, rel=1e-12)


def test_paper_points_are_the_last_and_for_the_last_stream_the_one_before() -> None:
    symmetry = symmetry_of(residual_net)
    counts = {group: len(points) for group, points in symmetry.observations.items()}
    assert list(counts.values()).count(1) < len(counts)
    last_stream = [group for group, count in counts.items() if count > 1][-1]
    for group, points in paper_points(symmetry).items():
        assert list(points) == [counts[group] - (2 if group == last_stream else 1)]


def test_paper_correlation_shrinks_small_units_and_can_exceed_one() -> None:
    """The two flaws of the published statistic (mean of standard deviations within batches, and 1e-4 added)."""
    source, _ = samples()
    small, shifted = PaperMoments(UNITS), PaperMoments(UNITS)
    small.update(*[0.01 * source / source.std(0)] * 2)
    for k, rows in enumerate(source.tensor_split(2)):
        shifted.update(rows + 10 * k, rows + 10 * k)
    assert float(small.correlation().diagonal().max()) < 0.6
    assert float(shifted.correlation().diagonal().min()) > 2


def test_paper_correlation_equals_its_formula_on_small_batches() -> None:
    source, reference = samples()
    moments, cuts = PaperMoments(UNITS), (2, 5, 20)
    batches = [
        (b.numpy(), a.numpy()) for b, a in zip(reference.tensor_split(cuts), source.tensor_split(cuts), strict=True)
    ]
    for theirs, ours in batches:
        moments.update(torch.from_numpy(ours), torch.from_numpy(theirs))
    outer = np.mean([theirs.T @ ours / len(ours) for theirs, ours in batches], axis=0)
    means, stds = (
        [np.mean([take(batch[side]) for batch in batches], axis=0) for side in (0, 1)]
        for take in (lambda rows: rows.mean(0), lambda rows: rows.std(0, ddof=1))
    )
    expected = (outer - np.outer(*means)) / (np.outer(*stds) + 1e-4)
    assert np.abs(moments.correlation().numpy() - expected).max() <= 1e-12


def test_paper_correlation_of_a_dead_unit_is_zero_and_of_nan_nan() -> None:
    source, reference = samples(dead=True)
    source[0, 3] = float("nan")
    moments = PaperMoments(UNITS)
    moments.update(source, reference)
    correlation = moments.correlation()
    assert not correlation[:, 1].any()
    assert bool(correlation[:, 3].isnan().all())
    assert solve_assignment(correlation[:, :3][:3]).shape == (3,)


def test_preset_paper_refuses_batches_of_one() -> None:
    source, reference, symmetry = planted(mlp, 0)
    with pytest.raises(InputError, match="batches has one with 1 samples, which have no standard deviation: preset"):
        match_activations(source, reference, images(30, 1), symmetry, preset="paper")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"objective": "cosine"},
            "objective is 'cosine', which is not known .*: expected correlation, ",
        ),
        ({"stream": "first"}, "stream is 'first', which is not known: expected sum, last"),
        ({"weight_mix": 1.5}, r"weight_mix is 1.5, expected a number from 0 \(activations\) to 1 \(weights\)"),
        ({"weight_mix": -0.1}, "weight_mix is -0.1, expected a number from 0"),
        ({"weight_mix": float("nan")}, "weight_mix is nan, expected a number from 0"),
        ({"weight_mix": "half"}, "weight_mix is 'half', expected a number from 0"),
        ({"weight_mix": True}, "weight_mix is True, expected a number from 0"),
        ({"preset": "ours"}, "preset is 'ours', which is not known: expected paper"),
        ({"preset": "paper", "objective": "raw"}, "objective is 'raw', but preset 'paper' sets it: .* 'correlation'"),
        ({"preset": "paper", "stream": "last"}, "stream is 'last', but preset 'paper' sets it: .* default 'sum'"),
        ({"preset": "paper", "weight_mix": 0.5}, "weight_mix is 0.5, but preset 'paper' sets it: .* default 0.0"),
    ],
)
def test_match_rejects_a_wrong_argument(settings: dict[str, object], message: str) -> None:
    source, reference, symmetry = planted(mlp, 0)
    with pytest.raises(InputError, match=message):
        match_activations(source, reference, images(8), symmetry, **settings)
