"""The shipped configurations of `fit`: the files that they read, and each of them made small enough to be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.config_files import find_config, shipped

STAGES = [name for name in shipped() if "fit --config" in Path(find_config(name)).read_text(encoding="utf-8")]


def read(name: str) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load(Path(find_config(name)).read_text(encoding="utf-8"))
    return settings


def make_inputs(settings: dict[str, Any], folder: Path) -> None:
    """The files that a configuration reads, of the right architecture, where it says they lie."""
    model = settings["model"]["init_args"]
    architecture = {name: model.get(name) for name in ("arch", "width", "num_classes", "input_shape")}
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the same files whenever they are made
        network = build_network(model["arch"], width=model.get("width", 1), num_classes=model["num_classes"])
    if "init_from" in model:
        path = folder / model["init_from"]
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {**architecture, "width": model.get("width", 1), "moment": "1ep", "steps_per_epoch": 1}
        state = {f"net.{name}": tensor for name, tensor in network.state_dict().items()}
        torch.save({"state_dict": state, "rebasin_lt": about}, path)
    callbacks = [callback.get("init_args", {}) for callback in settings["trainer"].get("callbacks", [])]
    for given in (model, *callbacks):
        if "mask" in given:
            (folder / given["mask"]).parent.mkdir(parents=True, exist_ok=True)
            Mask.ones_of(network).save(folder / given["mask"])


def small(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration with a thin network, few images, two epochs and one CPU; its images are written to `folder`."""
    model, data, trainer = settings["model"]["init_args"], settings["data"], settings["trainer"]
    digits = data["class_path"] == "Digits"
    if not digits:
        model["width"] = 0.0625
    data["init_args"] |= {"Digits": {"train_size": 60, "val_size": 20, "batch_size": 20}}.get(
        data["class_path"], {"batch_size": 10, "val_size": 10, "root": str(_images(data["class_path"], folder))}
    )
    for name in ("num_nodes", "strategy", "benchmark", "sync_batchnorm"):
        trainer.pop(name, None)
    if data["class_path"] == "ImageNet":  # which is ImageFolder with a thousand classes
        model["num_classes"] = 2
        data["class_path"] = "ImageFolder"
        data["init_args"] |= {"num_workers": 0, "image_size": 32}
    trainer |= {"devices": 1, "accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1}
    for callback in trainer.get("callbacks", []):
        given = callback["init_args"]
        if "at" in given:
            given["at"] = ["0it", "1ep"]
        if "targets" in given:
            given |= {"targets": [0.5, 0.75], "fraction": 0.5, "epochs_per_round": 1}
            given |= {"dense_epochs": 0} if "dense_epochs" in given else {}
            trainer["max_epochs"] = -1
        if "update_every" in given:
            given["update_every"] = 2
    return settings


def _images(kind: str, folder: Path) -> Path:
    generator = np.random.default_rng(0)
    if kind == "ImageNet":
        for part, count in (("train", 20), ("val", 4)):
            for name in ("n1", "n2"):
                (folder / part / name).mkdir(parents=True)
                for index in range(count):
                    pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / part / name / f"{index}.png")
        return folder
    labels, place = (1, "cifar-10-batches-bin") if kind == "CIFAR10" else (2, "cifar-100-binary")
    files = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"] if kind == "CIFAR10" else ["train", "test"]
    (folder / place).mkdir(parents=True)
    for file in files:
        count = 10 if kind == "CIFAR10" or file == "test" else 40
        records = generator.integers(0, 256, (count, 3072 + labels), dtype=np.uint8)
        records[:, :labels] = np.arange(count)[:, None] % 10
        records.tofile(folder / place / f"{file}.bin")
    return folder
