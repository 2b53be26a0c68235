"""The shipped ImageNet configurations, from dense to sparse on two processes, with nothing but overrides."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from kill_driver import Driver
from PIL import Image

from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.pruning.mask import Mask

RUNS = Path("runs") / "resnet50_imagenet"
DENSE, IMP, SPARSE = (f"experiments/resnet50_imagenet_{stage}.yaml" for stage in ("dense", "imp", "sparse"))
RANKS = {"class_path": "ranks.Ranks"}
REWIND = {"class_path": "RewindCheckpoint", "init_args": {"at": ["0it", "1ep"]}}
ONE_ROUND = {
    "class_path": "IterativeMagnitudePruning",
    "init_args": {"targets": [0.9], "fraction": 0.9, "epochs_per_round": 1},
}


class Walk:
    """Runs commands in one folder; `small` overrides what a laptop cannot do."""

    def __init__(self, driver: Driver, folder: Path, data: dict, width: float) -> None:
        self.driver, self.folder, self.data, self.width = driver, folder, data, width

    def fit(self, config: str, *arguments: str, model=None, **trainer) -> None:
        small = {
            "model": {"init_args": {"width": self.width, "learning_rate": 1e-4, **(model or {})}},
            "data": {"init_args": self.data},
            "trainer": {"num_nodes": 1, "devices": 2, "accelerator": "cpu", **trainer},
        }
        (self.folder / "small.yaml").write_text(yaml.safe_dump(small))
        self._run(2, "fit", "--config", config, "--config", "small.yaml", *arguments)
        found = [json.loads((self.folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
        assert found[0]["parameters"] == found[1]["parameters"]
        assert found[0]["masks"] == found[1]["masks"]

    def permute(self, num_images: int) -> None:
        networks = ["--ckpt-a", f"{RUNS}/a/last.ckpt", "--ckpt-b", f"{RUNS}/b/last.ckpt", "--out", f"{RUNS}/match"]
        images = ["--num-images", str(num_images), "--augment", "--batch-size", "8", "--num-alphas", "0"]
        self._run(1, "permute", *networks, "--masks", f"{RUNS}/imp/imp/sparsity-0.9.mask.safetensors", *images)

    def _run(self, ranks: int, *arguments: str) -> None:
        codes = self.driver.run(list(arguments), self.folder, ranks)
        assert codes == [0] * ranks, (self.folder / "output-0.txt").read_text()


def walk(folder: Path, data: dict, width: float, num_images: int) -> None:
    """The four commands; what each leaves is what the next one reads, under the names in the files."""
    with Driver() as driver:
        steps = Walk(driver, folder, data, width)
        for seed, run in (("1", "a"), ("2", "b")):
            place = ["--seed_everything", seed, "--trainer.default_root_dir", str(RUNS / run)]
            steps.fit(DENSE, *place, max_epochs=2, callbacks=[REWIND, RANKS])
        steps.fit(IMP, callbacks=[ONE_ROUND, RANKS])
        steps.permute(num_images)
        rewound = {"init_from": f"{RUNS}/b/rewind/1ep.ckpt"}
        steps.fit(SPARSE, model=rewound, max_epochs=1, callbacks=[RANKS])
    runs = folder / RUNS
    mask, permuted = (
        Mask.load(runs / place / "sparsity-0.9.mask.safetensors") for place in (Path("imp", "imp"), Path("match"))
    )
    assert mask.sparsity == permuted.sparsity == pytest.approx(0.9, abs=1e-4)
    assert mask != permuted
    sparse = load_network(runs / "permuted" / "last.ckpt")
    weights = dict(sparse.network.named_parameters())
    assert sparse.mask == permuted.unsigned
    assert not any(weights[name][~kept].any() for name, kept in permuted.items())
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    rows = [json.loads(row) for row in (runs / "permuted" / "metrics.jsonl").open()]
    assert {"val/loss", "val/top1", "val/top5"} <= {name for row in rows for name in row}


@pytest.mark.slow
def test_every_stage_on_a_thousand_tiny_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 12, 10, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        place = tmp_path / "imagenet" / "train" / f"n{number:08}"
        place.mkdir(parents=True)
        Image.fromarray(image).save(place / "0.jpeg")
    (tmp_path / "imagenet" / "val").symlink_to("train")
    images = {"root": "imagenet", "image_size": 32, "batch_size": 8, "num_workers": 0, "train_size": 35, "val_size": 5}
    walk(tmp_path, images, width=1 / 16, num_images=16)


@pytest.mark.slow
@pytest.mark.skipif("REBASIN_IMAGENET" not in os.environ, reason="REBASIN_IMAGENET names no folder of train and val")
def test_every_stage_on_images_of_all_classes(tmp_path):
    """On any folder in ImageNet's layout, with one image or more of each class; minutes on two cores."""
    root = os.environ["REBASIN_IMAGENET"]
    images = {"root": root, "image_size": 64, "batch_size": 16, "num_workers": 1, "train_size": 320, "val_size": 101}
    walk(tmp_path, images, width=0.25, num_images=128)
