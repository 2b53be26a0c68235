"""Activation matching: a planted permutation comes back, one pass is enough, and nothing that was given is touched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.errors import InputError
from rebasin_lt.matching.activation import MatchResult, match_activations
from rebasin_lt.models.registry import build_network
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

State = dict[str, Tensor]


class Block(nn.Module):
    """A residual block with batch norm and, if the width changes, a projection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(inner)) + self.skip(x)).relu()


def mlp() -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 5)]
    return nn.Sequential(*layers)


def residual_net() -> nn.Module:
    stem = [nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU()]
    return nn.Sequential(
        *stem, Block(12, 12), Block(12, 20), Block(20, 20), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 5)
    )


def vgg_like() -> nn.Module:
    convolutions = [
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 18, 3, padding=1),
        nn.ReLU(),
    ]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(18 * 4, 14), nn.ReLU(), nn.Linear(14, 5))


NETWORKS = {"mlp": mlp, "residual": residual_net, "vgg": vgg_like}
EXAMPLE = torch.zeros(2, 3, 4, 4, dtype=torch.float64)


def randomised(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network in fp64, with random parameters and batch norm statistics."""
    torch.manual_seed(seed)
    network = build().double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 4)
    return network


def planted(build: Callable[[], nn.Module], seed: int) -> tuple[nn.Module, nn.Module, Symmetry]:
    """A source, a reference that is the source with a random permutation, and their symmetry."""
    source = randomised(build, seed)
    symmetry = trace_symmetry(source, EXAMPLE)
    reference = copy.deepcopy(source)
    permutation = symmetry.random(torch.Generator().manual_seed(seed))
    reference.load_state_dict(symmetry.permute(source.state_dict(), permutation))
    return source, reference, symmetry


def images(*sizes: int) -> list[Tensor]:
    return [torch.randn(size, 3, 4, 4, dtype=torch.float64) for size in sizes]


def aligned(source: nn.Module, symmetry: Symmetry, result: MatchResult) -> State:
    return symmetry.permute(source.state_dict(), result.permutation)


def assert_equal_states(actual: State, expected: State) -> None:
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


@pytest.mark.parametrize("stream", ["sum", "last"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_planted_permutation_is_recovered(name: str, seed: int, stream: str) -> None:
    source, reference, symmetry = planted(NETWORKS[name], seed)
    result = match_activations(source, reference, images(100, 100), symmetry, stream=stream)
    assert_equal_states(aligned(source, symmetry, result), reference.state_dict())
    for group, live in result.live.items():
        assert live.shape == (symmetry.groups[group],)
        assert result.objective[group] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_noise_on_the_reference_does_not_hide_the_permutation(name: str) -> None:
    source, reference, symmetry = planted(NETWORKS[name], 0)
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


def test_batches_are_read_once_and_progress_is_told() -> None:
    source, reference, symmetry = planted(mlp, 0)
    told: list[tuple[int, int]] = []
    progress = lambda done, total: told.append((done, total))  # noqa: E731
    match_activations(source, reference, images(100, 100), symmetry, progress=progress)
    match_activations(source, reference, iter(images(40)), symmetry, progress=progress)
    assert told == [(1, 2), (2, 2), (1, 0)]


# ResNet20 against the plain algorithm: layer after layer, each with its own pass over the data and hooks on modules.


def hooked(network: nn.Module, module: str, batches: list[Tensor]) -> np.ndarray:
    """Activations (samples and sites, channels) after the relu that follows `module`."""
    rows: list[Tensor] = []
    handle = network.get_submodule(module).register_forward_hook(
        lambda _module, _inputs, output: rows.append(output.relu().movedim(1, -1).flatten(0, -2))
    )
    with torch.no_grad():
        for batch in batches:
            network(batch)
    handle.remove()
    return torch.cat(rows).numpy()


def resnet20_layers(network: nn.Module) -> Iterator[tuple[str, str]]:
    """(weight that writes a group, module after which the group is seen last)."""
    blocks = [name for name, module in network.named_modules() if hasattr(module, "conv2")]
    for block in blocks:
        yield f"{block}.conv1.weight", f"{block}.bn1"
    for last in blocks[2::3]:
        yield f"{last}.conv2.weight", last


def multi_pass(source: nn.Module, reference: nn.Module, batches: list[Tensor], symmetry: Symmetry) -> dict[str, Tensor]:
    """The paper's procedure (arXiv 2505.05143, section 3): one pass and one permutation of the source per layer."""
    source, found = copy.deepcopy(source), {}
    for weight, module in resnet20_layers(source):
        ours, theirs = (hooked(network, module, batches) for network in (source, reference))
        size = ours.shape[1]
        with np.errstate(invalid="ignore"):
            correlation = np.nan_to_num(np.corrcoef(theirs, ours, rowvar=False)[:size, size:])  # dead units: 0
        group = writer_group(symmetry, weight)
        found[group] = torch.from_numpy(linear_sum_assignment(correlation, maximize=True)[1])
        identity = symmetry.identity()
        step = type(identity)({**identity, group: found[group]})
        source.load_state_dict(symmetry.permute(source.state_dict(), step))
    return found


def writer_group(symmetry: Symmetry, weight: str) -> str:
    """The group that acts on the rows of `weight`."""
    return next(group for group in symmetry.groups if acts_on_rows(symmetry, group, weight))


def acts_on_rows(symmetry: Symmetry, group: str, weight: str) -> bool:
    return group in symmetry.axes[weight][0].groups


def test_one_pass_equals_the_layer_by_layer_reference_on_resnet20() -> None:
    networks = [randomised(lambda: build_network("resnet20", width=0.5), seed) for seed in (0, 1)]
    batches = [torch.randn(8, 3, 16, 16, dtype=torch.float64) for _ in range(2)]
    symmetry = trace_symmetry(networks[0], torch.zeros(2, 3, 32, 32, dtype=torch.float64))
    expected = multi_pass(*networks, batches, symmetry)
    with pytest.warns(UserWarning, match="32 units of .* on 16 images"):
        result = match_activations(*networks, batches, symmetry, stream="last")
    assert len(expected) == len(symmetry.groups) == 12
    assert sum(int(live.sum()) for live in result.live.values()) > 200  # of 224 units
    for group, indices in expected.items():
        live = result.live[group]  # correlations say nothing of the others
        assert torch.equal(result.permutation[group][live], indices[live]), group


def test_planted_permutation_of_resnet20_is_recovered() -> None:
    def build() -> nn.Module:
        return build_network("resnet20", width=0.5)

    source, reference, symmetry = planted(build, 5)
    result = match_activations(source, reference, images(32), symmetry)
    assert_equal_states(aligned(source, symmetry, result), reference.state_dict())


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
    with pytest.raises(InputError, match="stream is 'first', expected one of sum, last"):
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


def test_match_rejects_no_batches() -> None:
    source, reference, symmetry = planted(mlp, 0)
    with pytest.raises(InputError, match="batches is empty"):
        match_activations(source, reference, [], symmetry)
