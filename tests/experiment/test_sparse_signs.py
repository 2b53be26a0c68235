"""A sparse stage belongs to the signs of its mask where it begins with them, and only there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.experiment.stages import train_sparse
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.signs import sign_agreement


@pytest.mark.parametrize("place", ["recipe", "argument", "none"])
def test_signs_are_part_of_what_a_run_is(tmp_path, place) -> None:
    network = build_network("mlp", width=0.25)
    torch.save(network.state_dict(), tmp_path / "init.ckpt")
    kept, path = Mask.ones_of(network), tmp_path / "m.mask.safetensors"
    recipe = Recipe(network={"arch": "mlp", "width": 0.25, "num_classes": 10})
    recipe = replace(recipe, sparse={"learning_rate": 1e-9, **({"signs": "mask"} if place == "recipe" else {})})
    given = {"signs": "mask"} if place == "argument" else {}

    def train():
        return train_sparse(tmp_path / "run", recipe, path, tmp_path / "init.ckpt", seed=0, epochs=1, **given)

    opposite = kept.signed_by({name: -weight for name, weight in network.state_dict().items()})
    opposite.save(path)
    first = train()
    state = torch.load(tmp_path / "run" / "final.ckpt")["state_dict"]
    trained = {name.removeprefix("net."): weight for name, weight in state.items()}
    assert sign_agreement(opposite, trained) == pytest.approx(0.0 if place == "none" else 1.0, abs=1e-3)
    kept.signed_by(network.state_dict()).save(path)  # the same is kept, under other signs
    if place == "none":
        assert train() == first
    else:
        with pytest.raises(InputError, match=r"mask_sha256"):
            train()
