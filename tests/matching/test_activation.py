"""Activation matching: a planted permutation comes back, one pass is enough, and nothing that was given is touched."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from planting import (
    EXAMPLE,
    SMALL,
    aligned,
    assert_equal_states,
    images,
    mlp,
    planted,
    randomised,
    residual_net,
    vgg_like,
)
from torch import nn

from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.errors import InputError
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.symmetry.trace import trace_symmetry


@pytest.mark.parametrize("stream", ["sum", "last"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SMALL)
def test_planted_permutation_is_recovered(name: str, seed: int, stream: str) -> None:
    source, reference, symmetry = planted(SMALL[name], seed)
    result = match_activations(source, reference, images(100, 100), symmetry, stream=stream)
    assert_equal_states(aligned(source, symmetry, result), reference.state_dict())
    for group, live in result.live.items():
        assert live.shape == (symmetry.groups[group],)
        assert result.objective[group] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_noise_on_the_reference_does_not_hide_the_permutation(name: str) -> None:
    source, reference, symmetry = planted(SMALL[name], 0)
    exact = match_activations(source, reference, images(100, 100), symmetry).permutation
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter += 1e-3 * torch.randn_like(parameter)
    assert match_activations(source, reference, images(100, 100), symmetry).permutation == exact


def kill(network: nn.Module, units: dict[int, list[int]]) -> None:
    """Make units of the vgg-like network dead: layer -> units."""
    with torch.no_grad():
        for layer, dead in units.items():
            network[layer].bias[dead] = -100.0


def test_dead_units_are_settled_by_their_weights() -> None:
    source = randomised(vgg_like, 1)
    with torch.no_grad():
        source[6].bias += 0.3  # as initialised, some of its units are dead already
    kill(source, {0: [1, 4, 9], 3: [0, 2, 3, 17], 6: [5, 6]})
    symmetry = trace_symmetry(source, EXAMPLE)
    reference = copy.deepcopy(source)
    reference.load_state_dict(symmetry.permute(source.state_dict(), symmetry.random(torch.Generator().manual_seed(3))))
    result = match_activations(source, reference, images(300), symmetry)
    assert [int((~live).sum()) for live in result.live.values()] == [3, 4, 2]
    assert_equal_states(aligned(source, symmetry, result), reference.state_dict())


def test_dead_units_of_one_network_cost_the_others_nothing() -> None:
    source, reference, symmetry = planted(vgg_like, 2)
    exact = match_activations(source, reference, images(40), symmetry).permutation
    kill(source, {3: [0, 1]})
    result = match_activations(source, reference, images(40), symmetry)
    group = list(symmetry.groups)[1]
    live = result.live[group]
    assert int(live.sum()) == symmetry.groups[group] - 2
    assert torch.equal(result.permutation[group][live], exact[group][live])


def test_dead_unit_that_is_planted_wrong_never_costs_a_live_one() -> None:
    """Weights that all but shout for another partner do not move a live pair."""
    source, reference, symmetry = planted(mlp, 4)
    exact = match_activations(source, reference, images(40), symmetry).permutation
    group = next(iter(symmetry.groups))
    with torch.no_grad():
        source[1].weight[0] *= 0
        source[1].bias[0] = 0
        source[3].weight[:, 0] *= 1e6
    result = match_activations(source, reference, images(40), symmetry)
    live = result.live[group]
    assert torch.equal(result.permutation[group][live], exact[group][live])


def test_source_and_reference_are_bit_identical_after_matching() -> None:
    source, reference, symmetry = planted(residual_net, 0)
    source.train()
    nets = (source, reference)
    before = [{name: tensor.clone() for name, tensor in net.state_dict().items()} for net in nets]
    match_activations(source, reference, images(24), symmetry)
    for net, state in zip(nets, before, strict=True):
        assert_equal_states(dict(net.state_dict()), state)
        assert not any(parameter.grad is not None for parameter in net.parameters())
    assert (source.training, reference.training) == (True, False)


def test_barrier_to_a_planted_copy_vanishes_after_matching() -> None:
    source, reference, symmetry = planted(residual_net, 1)
    batches = [(batch, torch.randint(0, 5, (len(batch),))) for batch in images(30, 10)]
    result = match_activations(source, reference, batches, symmetry)
    before = loss_barrier(reference, source, reference, batches, alphas=5)
    after = loss_barrier(reference, aligned(source, symmetry, result), reference, batches, alphas=5)
    assert max(before.loss) - min(before.loss) > 1e-2
    assert max(after.loss) - min(after.loss) == pytest.approx(0, abs=1e-9)
    assert after.loss_barrier == pytest.approx(0, abs=1e-9)


def test_states_serve_as_well_as_networks_and_targets_are_ignored() -> None:
    source, reference = randomised(vgg_like, 0), randomised(vgg_like, 1)
    symmetry, batches = trace_symmetry(source, EXAMPLE), images(25, 25)
    pairs = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in batches]
    first = match_activations(source, reference, batches, symmetry)
    second = match_activations(source.state_dict(), reference.state_dict(), pairs, symmetry)
    assert first.permutation == second.permutation
    assert first.num_samples == 50


def test_permutation_does_not_depend_on_the_cut_into_batches() -> None:
    source, reference = randomised(residual_net, 0), randomised(residual_net, 1)
    symmetry, whole = trace_symmetry(source, EXAMPLE), images(36)
    cut = list(torch.split(whole[0], [1, 20, 15]))
    assert (
        match_activations(source, reference, whole, symmetry).permutation
        == match_activations(source, reference, cut, symmetry).permutation
    )


def test_network_matched_with_itself_gives_the_identity() -> None:
    source = randomised(residual_net, 0)
    symmetry = trace_symmetry(source, EXAMPLE)
    assert match_activations(source, source, images(30), symmetry).permutation == symmetry.identity()


@pytest.mark.parametrize("name", SMALL)
def test_way_back_is_the_inverse_for_planted_pairs(name: str) -> None:
    source, reference, symmetry = planted(SMALL[name], 1)
    there, back = (
        match_activations(*pair, images(100, 100), symmetry).permutation
        for pair in ((source, reference), (reference, source))
    )
    assert back.compose(there) == symmetry.identity()


@pytest.mark.parametrize("units", range(2, 8))
@pytest.mark.parametrize("objective", ["correlation", "covariance", "raw"])
def test_activation_objective_equals_brute_force(units: int, objective: str) -> None:
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, units), nn.Tanh(), nn.Linear(units, 2))  # noqa: E731
    source, reference = randomised(build, 0), randomised(build, 1)
    symmetry, batches = trace_symmetry(source, EXAMPLE), images(40)
    result = match_activations(source, reference, batches, symmetry, objective=objective)
    ours, theirs = (network[:3](batches[0]).detach() for network in (source, reference))
    if objective != "raw":
        ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
    if objective == "correlation":
        ours, theirs = ours / ours.std(0, correction=0), theirs / theirs.std(0, correction=0)
    similarity = theirs.T @ ours / len(ours)
    best = max(sum(similarity[i, p[i]] for i in range(units)) for p in itertools.permutations(range(units)))
    assert result.objective["1.weight"] == pytest.approx(float(best) / units, abs=1e-9)


def test_batches_are_read_once_and_progress_is_told() -> None:
    source, reference, symmetry = planted(mlp, 0)
    told: list[tuple[int, int]] = []
    progress = lambda done, total: told.append((done, total))  # noqa: E731
    match_activations(source, reference, images(100, 100), symmetry, progress=progress)
    match_activations(source, reference, iter(images(40)), symmetry, progress=progress)
    assert told == [(1, 2), (2, 2), (1, 0)]


def test_summing_over_the_stream_differs_from_its_last_point() -> None:
    networks = [randomised(residual_net, seed) for seed in (0, 1)]
    symmetry, batches = trace_symmetry(networks[0], EXAMPLE), images(30)
    by_stream = [match_activations(*networks, batches, symmetry, stream=stream) for stream in ("sum", "last")]
    differing = {group for group in symmetry.groups if by_stream[0].objective[group] != by_stream[1].objective[group]}
    streams = {group for group, points in symmetry.observations.items() if len(points) > 1}
    assert streams
    assert differing == streams


def test_few_images_are_warned_about() -> None:
    source, reference, symmetry = planted(mlp, 0)
    with pytest.warns(UserWarning, match=r"matching 24 units of 1\.weight on 8 images: with fewer images than units"):
        match_activations(source, reference, images(8), symmetry)


def test_match_rejects_an_unknown_stream() -> None:
    source, reference, symmetry = planted(mlp, 0)
    with pytest.raises(InputError, match="stream is 'first', which is not known: expected sum, last"):
        match_activations(source, reference, images(8), symmetry, stream="first")


def test_match_rejects_networks_of_different_architectures_and_widths() -> None:
    source, _, symmetry = planted(mlp, 0)
    with pytest.raises(InputError, match=r"source has 1\.weight, reference does not"):
        match_activations(source, randomised(vgg_like, 0), images(8), symmetry)
    wider = {**source.state_dict(), "1.weight": torch.zeros(48, 48, dtype=torch.float64)}
    with pytest.raises(InputError, match=r"1.weight has shape \(24, 48\) in source and \(48, 48\) in reference"):
        match_activations(source, wider, images(8), symmetry)


def test_match_rejects_the_symmetry_of_another_network() -> None:
    _, _, symmetry = planted(mlp, 0)
    other = randomised(residual_net, 0)
    with pytest.raises(InputError, match="symmetry has 1.bias, source does not|trace the symmetry of this network"):
        match_activations(other, other, images(8), symmetry)


def test_match_rejects_nan_activations_and_names_the_group() -> None:
    source, reference, symmetry = planted(mlp, 0)
    with torch.no_grad():
        reference[3].weight[2] = float("nan")
    with pytest.raises(InputError, match=r"activations of 3\.weight \(observation 0\) are NaN or infinite"):
        match_activations(source, reference, images(24), symmetry)


def test_nan_activations_are_named_where_they_begin_in_the_order_of_execution() -> None:
    """In the last block of a stream that the stem defines; everything after it is NaN too."""
    source, reference, symmetry = planted(residual_net, 0)
    with torch.no_grad():
        source[4].conv1.weight[2] = float("nan")
    message = r"activations of 4\.conv1\.weight \(observation 0\) are NaN or infinite in source, first after 4 \(relu"
    with pytest.raises(InputError, match=message):
        match_activations(source, reference, images(24), symmetry)


def test_match_rejects_no_batches() -> None:
    source, reference, symmetry = planted(mlp, 0)
    with pytest.raises(InputError, match="batches is empty"):
        match_activations(source, reference, [], symmetry)


@pytest.mark.parametrize("channels_last", [True, False])
def test_autocast_finds_nearly_the_same_and_leaves_the_networks_in_full_precision(channels_last: bool) -> None:
    source, reference = (randomised(residual_net, seed).float() for seed in (0, 1))
    symmetry, batches = trace_symmetry(source, EXAMPLE), [batch.float() for batch in images(100, 100)]
    full, short = (
        match_activations(source, reference, batches, symmetry, autocast=dtype, channels_last=channels_last)
        for dtype in (None, torch.bfloat16)
    )
    equal = [full.permutation[group] == short.permutation[group] for group in symmetry.groups]
    assert full.permutation.keys() == short.permutation.keys()
    assert torch.cat(equal).double().mean() > 0.8
    assert full.objective != short.objective  # so it was run in another precision
    assert full.objective == pytest.approx(short.objective, abs=0.02)
    for network in (source, reference):
        assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_running_statistics_are_used_and_not_updated() -> None:
    """A unit that the running statistics silence is dead, although batch statistics would bring it to life."""
    source, reference = (randomised(residual_net, seed).train() for seed in (0, 1))
    symmetry = trace_symmetry(source, EXAMPLE)
    group, norm = "3.conv1.weight", source[3].bn1
    before = match_activations(source, reference, images(40), symmetry)
    unit = int(before.permutation[group][before.live[group]][0])
    with torch.no_grad():
        norm.running_mean[unit] = 1e6
    buffers = {name: buffer.clone() for name, buffer in source.named_buffers()}
    result = match_activations(source, reference, images(40), symmetry)
    assert not result.live[group][result.permutation[group] == unit]
    assert result.live[group].any()
    assert_equal_states(dict(source.named_buffers()), buffers)


def test_both_networks_see_the_same_images() -> None:
    """A network beside itself correlates perfectly, whatever is fed; other images for one of them would show."""
    source = randomised(residual_net, 0)
    symmetry = trace_symmetry(source, EXAMPLE)
    seen = match_activations(source, source, (batch for batch in images(20, 20)), symmetry)
    assert seen.objective == pytest.approx(dict.fromkeys(symmetry.groups, 1.0), abs=1e-9)
