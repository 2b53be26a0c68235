"""One pass over the data equals the plain algorithm: layer after layer, each with its own pass and hooks on modules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from planting import aligned, assert_equal_states, images, planted, randomised
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from rebasin_lt.matching.activation import match_activations
from rebasin_lt.models.registry import build_network
from rebasin_lt.symmetry.permutation import Permutation
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

Correlation = Callable[[list[np.ndarray], list[np.ndarray]], np.ndarray]


def resnet20() -> nn.Module:
    return build_network("resnet20", width=0.5)


def hooked(network: nn.Module, module: str, batches: list[Tensor]) -> list[np.ndarray]:
    """Activations (samples and sites, channels) of each batch after the relu that follows `module`."""
    rows: list[np.ndarray] = []
    handle = network.get_submodule(module).register_forward_hook(
        lambda _module, _inputs, output: rows.append(output.relu().movedim(1, -1).flatten(0, -2).numpy())
    )
    with torch.no_grad():
        for batch in batches:
            network(batch)
    handle.remove()
    return rows


def resnet20_layers(network: nn.Module, last_blocks: tuple[int, ...] = (2, 5, 8)) -> Iterator[tuple[str, str]]:
    """(weight that writes a group, module after which the group is seen); streams after the blocks given."""
    blocks = [name for name, module in network.named_modules() if hasattr(module, "conv2")]
    for block in blocks:
        yield f"{block}.conv1.weight", f"{block}.bn1"
    for block in last_blocks:
        yield f"{blocks[block]}.conv2.weight", blocks[block]


def pearson(theirs: list[np.ndarray], ours: list[np.ndarray]) -> np.ndarray:
    """arXiv 2505.05143, Eq. 1, over all samples."""
    with np.errstate(invalid="ignore"):
        full = np.corrcoef(np.concatenate(theirs), np.concatenate(ours), rowvar=False)
    size = ours[0].shape[1]
    return np.nan_to_num(full[:size, size:])  # dead units: 0


def published(theirs: list[np.ndarray], ours: list[np.ndarray]) -> np.ndarray:
    """What the published code takes for it: batches alike, their own standard deviations averaged, 1e-4 added."""
    mean_theirs, mean_ours = (np.mean([rows.mean(0) for rows in side], axis=0) for side in (theirs, ours))
    std_theirs, std_ours = (np.mean([rows.std(0, ddof=1) for rows in side], axis=0) for side in (theirs, ours))
    outer = np.mean([b.T @ a / len(a) for b, a in zip(theirs, ours, strict=True)], axis=0)
    return (outer - np.outer(mean_theirs, mean_ours)) / (np.outer(std_theirs, std_ours) + 1e-4)


def multi_pass(
    source: nn.Module,
    reference: nn.Module,
    batches: list[Tensor],
    symmetry: Symmetry,
    correlation: Correlation,
    last_blocks: tuple[int, ...] = (2, 5, 8),
) -> dict[str, Tensor]:
    """The paper's procedure (arXiv 2505.05143, section 3): one pass and one permutation of the source per layer."""
    source, found = copy.deepcopy(source), {}
    for weight, module in resnet20_layers(source, last_blocks):
        similarity = correlation(*(hooked(network, module, batches) for network in (reference, source)))
        group = next(group for group in symmetry.groups if group in symmetry.axes[weight][0].groups)
        found[group] = torch.from_numpy(linear_sum_assignment(similarity, maximize=True)[1])
        step = Permutation({**symmetry.identity(), group: found[group]})
        source.load_state_dict(symmetry.permute(source.state_dict(), step))
    return found


def two_resnets() -> tuple[list[nn.Module], Symmetry]:
    networks = [randomised(resnet20, seed) for seed in (0, 1)]
    return networks, trace_symmetry(networks[0], torch.zeros(2, 3, 32, 32, dtype=torch.float64))


def test_one_pass_equals_the_layer_by_layer_reference_on_resnet20() -> None:
    networks, symmetry = two_resnets()
    batches = [torch.randn(8, 3, 16, 16, dtype=torch.float64) for _ in range(2)]
    expected = multi_pass(*networks, batches, symmetry, pearson)
    with pytest.warns(UserWarning, match="32 units of .* on 16 images"):
        result = match_activations(*networks, batches, symmetry, stream="last")
    assert len(expected) == len(symmetry.groups) == 12
    assert sum(int(live.sum()) for live in result.live.values()) > 200  # of 224 units
    for group, indices in expected.items():
        live = result.live[group]  # correlations say nothing of the others
        assert torch.equal(result.permutation[group][live], indices[live]), group


def test_preset_paper_equals_the_published_procedure_on_resnet20() -> None:
    """Its third stream is seen after block 7 of 0 to 8, as published. Batches differ in size and in contrast."""
    networks, symmetry = two_resnets()
    batches = [scale * torch.randn(n, 3, 16, 16, dtype=torch.float64) for n, scale in ((8, 1.0), (20, 0.3), (6, 3.0))]
    expected = multi_pass(*networks, batches, symmetry, published, last_blocks=(2, 5, 7))
    result = match_activations(*networks, batches, symmetry, preset="paper")
    corrected = match_activations(*networks, batches, symmetry, stream="last")
    assert len(expected) == len(symmetry.groups) == 12
    equal = [
        group
        for group, indices in expected.items()
        if torch.equal(result.permutation[group][result.live[group]], indices[result.live[group]])
    ]
    assert len(equal) == 12
    assert sum(int(live.sum()) for live in result.live.values()) > 200
    differing = {group for group in symmetry.groups if (corrected.permutation[group] != expected[group]).any()}
    assert "layer3.0.conv2.weight" in differing  # so the test sees the flaws
    assert len(differing) > 6


def test_planted_permutation_of_resnet20_is_recovered() -> None:
    source, reference, symmetry = planted(resnet20, 5)
    result = match_activations(source, reference, images(32), symmetry)
    assert_equal_states(aligned(source, symmetry, result), reference.state_dict())
