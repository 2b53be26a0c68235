"""Every example: a shuffled copy of its network is matched exactly by its own batches, and its mask moves."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import pytest
import torch
import yaml
from example_rows import NEEDS, ROOT
from lightning import LightningDataModule

import rebasin_lt as rb
from rebasin_lt.feeding.calls import calls_of

EXAMPLES = ROOT / "examples"


@pytest.fixture(params=sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def example(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The YAML of an example."""
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    return yaml.safe_load((EXAMPLES / f"{request.param}.yaml").read_text(encoding="utf-8"))


def made(named: dict[str, Any]) -> Any:
    """An object of the class that a YAML names."""
    module, _, name = named["class_path"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**named.get("init_args", {}))


def test_a_planted_permutation_is_found_and_masks_move_with_it(example: dict[str, Any]) -> None:
    """Bit for bit, to the mask that the copy has itself."""
    network, twin, data = made(example["model"]), made(example["model"]), made(example["data"])
    assert isinstance(data, LightningDataModule)
    batches = list(itertools.islice(data.train_dataloader(), 4))
    call = next(iter(calls_of(batches, network)))
    symmetry = rb.trace_symmetry(network, call.args, call.kwargs)
    planted = symmetry.random(torch.Generator().manual_seed(1))
    twin.load_state_dict(symmetry.permute(network.state_dict(), planted))
    found = rb.match_activations(network, twin, batches, symmetry).permutation
    assert symmetry.coverage > 0.99  # but for biases of outputs
    assert not symmetry.unknown
    assert all(torch.equal(found[group], planted[group]) for group in symmetry.groups)
    mask, its_own = (rb.magnitude_prune(each.state_dict(), rb.Mask.ones_of(each), 0.8) for each in (network, twin))
    moved = symmetry.permute(mask, found)
    assert moved.keys() == its_own.keys()
    assert all(torch.equal(moved[name], its_own[name]) for name in mask)
    assert any(not torch.equal(mask[name], its_own[name]) for name in mask)
