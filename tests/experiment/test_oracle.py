"""The whole experiment with an oracle: B is A with its units permuted, so the permuted run must be the LTH run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning import seed_everything

from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.checkpoint import network_state, read_checkpoint
from rebasin_lt.lit.classifier import Classifier, MaskedClassifier
from rebasin_lt.lit.data.digits import Digits
from rebasin_lt.lit.trainer import quiet_trainer
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.trace import trace_symmetry

TARGET = 0.8
MASK = f"sparsity-{TARGET:g}.mask.safetensors"
SETTINGS = {"arch": "mlp", "learning_rate": 0.1}


def train(folder: Path, module: Classifier, epochs: int, *callbacks: object) -> float:
    """Train in fp64, with the same data order every time; returns the last epoch's training loss."""
    seed_everything(3, workers=True, verbose=False)
    trainer = quiet_trainer(folder, epochs, callbacks, precision="64-true", limit_val_batches=0)
    trainer.fit(module, datamodule=Digits(batch_size=50, seed=3))
    return trainer.callback_metrics["train/loss"].item()


def permuted_checkpoint(source: Path, target: Path, symmetry, permutation) -> Path:
    """A copy of one of our checkpoints whose network has its units permuted."""
    content = read_checkpoint(source)
    state = symmetry.permute(network_state(content), permutation)
    torch.save({**content, "state_dict": {f"net.{name}": tensor for name, tensor in state.items()}}, target)
    return target


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A, its mask and rewind checkpoint; B, which is A permuted, and B's rewind checkpoint; π, and its symmetry."""
    folder = tmp_path_factory.mktemp("oracle")
    seed_everything(0, workers=True, verbose=False)
    dense = Classifier(**SETTINGS)
    train(folder / "dense", dense, 4, RewindCheckpoint(["1ep"], dirpath=str(folder)))
    symmetry = trace_symmetry(dense.net, torch.zeros(2, 1, 8, 8, dtype=torch.float64))
    planted = symmetry.random(torch.Generator().manual_seed(1))
    final = {name: tensor.clone() for name, tensor in dense.net.state_dict().items()}
    rewound = permuted_checkpoint(folder / "1ep.ckpt", folder / "b-1ep.ckpt", symmetry, planted)
    imp = IterativeMagnitudePruning([TARGET], epochs_per_round=1, dirpath=str(folder))
    train(folder / "imp", dense, imp.num_epochs, imp)
    return folder, symmetry, planted, final, symmetry.permute(final, planted), rewound


def test_planted_permutation_is_recovered_and_b_is_untouched(planted) -> None:
    _, symmetry, permutation, state_a, state_b, _ = planted
    before = {name: tensor.clone() for name, tensor in state_b.items()}
    batches = [images.double() for images, _ in Digits(batch_size=50).sweep("train")]
    result = match_activations(state_a, state_b, batches, symmetry)
    for group, live in result.live.items():
        assert int(live.sum()) > symmetry.groups[group] / 2
        assert torch.equal(result.permutation[group][live], permutation[group][live]), group
    for name, tensor in state_b.items():
        assert torch.equal(tensor, before[name]), name
    aligned = symmetry.permute(state_a, result.permutation)
    assert all(torch.equal(aligned[name], state_b[name]) for name in state_b)  # dead units too, by their weights


def test_permuted_run_reproduces_the_lth_run(planted) -> None:
    folder, symmetry, _, state_a, state_b, rewound_b = planted
    batches = [images.double() for images, _ in Digits(batch_size=50).sweep("train")]
    permutation = match_activations(state_a, state_b, batches, symmetry).permutation
    mask = Mask.load(folder / MASK)
    Mask(symmetry.permute(mask, permutation)).save(folder / "permuted.mask.safetensors")
    runs = {
        "lth": (MASK, folder / "1ep.ckpt"),
        "permuted": ("permuted.mask.safetensors", rewound_b),
        "naive": (MASK, rewound_b),
    }
    loss = {
        name: train(folder / name, MaskedClassifier(str(folder / file), **SETTINGS, init_from=str(start)), 4)
        for name, (file, start) in runs.items()
    }
    assert loss["permuted"] == pytest.approx(loss["lth"], rel=1e-5)
    assert loss["naive"] != pytest.approx(loss["lth"], rel=1e-2)
