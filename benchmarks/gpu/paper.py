"""The paper's ResNet20×1 on CIFAR-10 (JPEG), stage by stage, as long as the time allows."""

from __future__ import annotations

import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._device import trainer_on
from benchmarks.gpu.running import Setting
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.storage.files import write_json
from rebasin_lt.study.folder import claim_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.plan import plan
from rebasin_lt.study.work import run_stage

METHODS = ("lth", "permuted", "naive", "permuted+mask", "naive+mask")
DENSE, ROUND, TARGET = 200, 50, 0.95
"""The paper's epochs of dense training and of a round of pruning, and its sparsity."""


def study(setting: Setting, data: str, share: float) -> Study:
    """One repetition, with a share of the paper's epochs in every stage."""
    toy = setting.toy
    dense, pruning = max(1, round(share * DENSE)), max(1, round(share * ROUND))
    sizes = {"arch": "resnet20", "num_classes": 10} | ({"input_shape": [3, 8, 8]} if toy else {})
    speed = {} if toy else {"channels_last": True}
    return Study(
        title=f"ResNet20 on CIFAR-10 (JPEG), {share:.3g} of the paper's epochs",
        seeds=[0],
        widths=[0.25 if toy else 1],
        methods=list(METHODS),
        matchers={"permuted": {}},
        barrier=None,
        diversity=None,
        recipe=Recipe(
            data={"name": "image_folder", "root": data, "resident": True, "batch_size": 10 if toy else 128}
            | ({"image_size": 8} if toy else {}),
            network=sizes | speed,
            targets=(0.5 if toy else TARGET,),
            fraction=0.5 if toy else 0.2,
            rewinds=("1it" if dense == 1 else f"{max(1, dense // 20)}ep",),
            dense={"learning_rate": 0.08, "momentum": 0.9, "weight_decay": 5e-4},
            prune={"learning_rate": 0.01, "momentum": 0.0, "weight_decay": 0.0},
            sparse={"learning_rate": 0.02, "momentum": 0.9, "weight_decay": 5e-4},
            dense_epochs=dense,
            epochs_per_round=pruning,
            sparse_epochs=max(1, dense - max(1, dense // 20)),
            trainer={**trainer_on(setting.device), **({} if toy else {"precision": "bf16-mixed"})},
        ),
    )


def epochs_of(plan_of: Study) -> int:
    """Epochs of all stages that train."""
    recipe = plan_of.recipe
    return 2 * recipe.dense_epochs + recipe.prune_epochs + len(plan_of.methods) * int(recipe.sparse_epochs or 0)


def reproduce(setting: Setting) -> Any:
    """Train and measure what there is time for; `paper-stages.json` is written anew after every stage.

    One epoch of dense training, the images decoded and kernels chosen by then, says what the others cost; a tenth of
    the time is kept back for matching and for tests. Without data, nothing is trained.
    """
    data = toy_images(setting.out / "toy-images") if setting.toy else setting.data
    if data is None or not Path(data).is_dir():
        return {"left out": f"no class folders of images in {data}: give --data"}
    share, probed = 0.0, 0.0
    if not setting.toy:
        probed = _seconds_of_an_epoch(setting, data)
        whole = epochs_of(study(setting, data, 1.0)) * probed
        share = min(1.0, 0.9 * (setting.ends - time.time()) / whole)
    return {"epoch_seconds": probed, **_done(setting, study(setting, data, share), setting.out / "paper")}


def _seconds_of_an_epoch(setting: Setting, data: str) -> float:
    """Of the second of two stages of an epoch each."""
    probe, seconds = study(setting, data, 0.0), 0.0
    folder = setting.out / "probe"
    with claim_study(folder, probe):
        for stage in [stage for stage in plan(probe).values() if stage.kind == "dense"][:2]:
            began = time.time()
            run_stage(probe, stage, folder)
            seconds = time.time() - began
    return seconds


def _done(setting: Setting, chosen: Study, folder: Path) -> dict[str, Any]:
    """Run the stages, and say what each came to."""
    found: dict[str, Any] = {"title": chosen.title, "epochs": epochs_of(chosen), "stages": {}}
    with claim_study(folder, chosen):
        for path, stage in plan(chosen).items():
            began = time.time()
            run_stage(chosen, stage, folder)
            result = json.loads((folder / path / "result.json").read_text())
            told = {
                key: value for key, value in result.items() if key.startswith(("test/", "before_training", "masks"))
            }
            found["stages"][path] = {"seconds": round(time.time() - began, 2), **told}
            write_json(setting.out / "paper-stages.json", {"commit": setting.commit, "device": setting.device, **found})
    return found


def toy_images(folder: Path) -> str:
    """JPEG files in class folders, for a machine without a GPU."""
    generator = np.random.default_rng(0)
    for (part, count), label in product((("train", 4), ("test", 1)), range(10)):
        place = folder / part / str(label)
        place.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place / f"{number}.jpg")
    return str(folder)
