"""Small runs of `fit`, of every kind, and a fingerprint of all that a run leaves."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import torch
import yaml
from kill_driver import Driver
from PIL import Image

from rebasin_lt.lit.metrics_file import read_rows
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.files import hash_tensors

STEPS = 10  # in an epoch: 52 images to train on, 5 in a batch
IMP = {
    "class_path": "IterativeMagnitudePruning",
    "init_args": {
        "targets": [0.5, 0.7],
        "fraction": 0.5,
        "epochs_per_round": 2,
        "dense_epochs": 1,
        "after_prune": "rewind_weights",
        "rewind_from": "3it",
    },
}
DST = {"class_path": "DynamicSparseTraining", "init_args": {"sparsity": 0.6, "update_every": 3, "until": 1.0}}
EPOCHS = {"dense": 3, "imp": 5, "sparse": 3, "dst": 3}


class Runs:
    """Each kind of run with 0 or 2 workers and 1 or 2 processes; `whole` holds what it comes to."""

    def __init__(self, driver: Driver, root: Path) -> None:
        self.driver, self.root = driver, root
        self.numbers = itertools.count()
        self.wholes: dict[tuple[str, int, int], dict[str, str]] = {}
        write_images(root / "images")
        network = build_network("kill_driver:network", num_classes=2)
        torch.save(network.state_dict(), root / "init.pt")
        random_mask_of(network).save(root / "random.mask.safetensors")
        for kind in EPOCHS:
            (root / f"{kind}.yaml").write_text(yaml.safe_dump(configuration(kind, root)))

    def arguments(self, kind: str, workers: int = 0, ranks: int = 1) -> list[str]:
        command = ["fit", "--config", str(self.root / f"{kind}.yaml"), f"--data.num_workers={workers}"]
        return [*command, *([f"--trainer.devices={ranks}", "--trainer.strategy=ddp"] if ranks > 1 else [])]

    def folder(self) -> Path:
        """A new folder; the run is in `run` below it."""
        folder = self.root / f"{next(self.numbers)}"
        folder.mkdir()
        return folder

    def run(self, folder: Path, kind: str, workers: int = 0, ranks: int = 1, more=(), **point) -> list[int]:
        return self.driver.run([*self.arguments(kind, workers, ranks), *more], folder, ranks, **point)

    def whole(self, kind: str, workers: int = 0, ranks: int = 1) -> dict[str, str]:
        """The fingerprint of a run that nothing stops. The number of workers changes nothing."""
        key = kind, workers, ranks
        if key not in self.wholes:
            folder = self.folder()
            assert self.run(folder, kind, workers, ranks) == [0] * ranks, output(folder)
            self.wholes[key] = fingerprint(folder / "run")
            shutil.rmtree(folder)
        return self.wholes[key]

    def check_resumes(self, folder: Path, kind: str, workers: int = 0, ranks: int = 1) -> None:
        """The same command again, and nothing differs from a run that was never stopped."""
        codes = self.run(folder, kind, workers, ranks)
        assert codes == [0] * ranks, output(folder)
        assert fingerprint(folder / "run") == self.whole(kind, 0, ranks)
        shutil.rmtree(folder)


def configuration(kind: str, root: Path) -> dict:
    model = {"arch": "kill_driver:network", "num_classes": 2, "input_shape": [3, 8, 8], "learning_rate": 0.05}
    callbacks: list = [{"class_path": "RewindCheckpoint", "init_args": {"at": ["0it", "3it", f"{EPOCHS[kind]}ep"]}}]
    if kind == "imp":
        callbacks.append(IMP)
    if kind == "dst":
        callbacks.append(DST)
    if kind == "sparse":
        model |= {"mask": str(root / "random.mask.safetensors"), "init_from": str(root / "init.pt")}
    return {
        "seed_everything": 3,
        "model": {"class_path": "MaskedClassifier" if kind == "sparse" else "Classifier", "init_args": model},
        "data": {
            "class_path": "ImageFolder",
            "init_args": {
                "root": str(root / "images"),
                "batch_size": 5,
                "val_size": 6,
                "image_size": 8,
                "resident": False,  # workers are what is hard to stop
            },
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": -1 if kind == "imp" else EPOCHS[kind],
            "default_root_dir": "run",
            "callbacks": callbacks,
            "logger": False,
        },
        "resume": {"every_steps": 2},
    }


def write_images(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for part, label in itertools.product(("train", "test"), ("a", "b")):
        (folder / part / label).mkdir(parents=True)
        for number in range(29 if part == "train" else 2):
            pixels = generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / label / f"{number}.png")


def random_mask_of(network: torch.nn.Module) -> Mask:
    generator = torch.Generator().manual_seed(0)
    weights = {name: weight for name, weight in network.named_parameters() if weight.ndim > 1}
    return Mask({name: torch.rand(weight.shape, generator=generator) < 0.3 for name, weight in weights.items()})


def fingerprint(run: Path) -> dict[str, str]:
    """sha256 of the tensors of every checkpoint and mask file, optimiser states too, and the rows of metrics."""
    files = {
        str(path.relative_to(run)): hash_tensors(tensors_of(torch.load(path, weights_only=True)))
        for path in sorted(run.rglob("*.ckpt"))
    }
    masks = {str(path.relative_to(run)): Mask.load(path).hash for path in sorted(run.rglob("*.mask.safetensors"))}
    leftovers = {str(path): "" for path in run.rglob("*.tmp")}
    return {**files, **masks, **leftovers, "metrics": "\n".join(map(str, read_rows(run / "metrics.jsonl")))}


def tensors_of(content: object, name: str = "") -> dict[str, torch.Tensor]:
    """All tensors in nested mappings and lists, by path."""
    if isinstance(content, torch.Tensor):
        return {name: content}
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return {key: tensor for own, value in pairs for key, tensor in tensors_of(value, f"{name}/{own}").items()}


def output(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("output-*.txt")))
