"""How good permutations are: barriers, mask overlap and accuracy after masked training, by method, over pairs of seeds.

    python -m benchmarks.quality [--settings digits,resnet20,...] [--work DIR] [--root DIR] [--out benchmarks/results]

For each pair: dense A and B, A pruned, then every method's permutation, judged. Every stage is a folder under --work
and is done once, so an interrupted run goes on where it was. Results go into quality.json, table by table into
docs/matching.md. Images: digits, Fashion-MNIST in
/usr/share/datasets/fashion-mnist, or CIFAR-10 as class folders of image files, `--root/train` and `--root/test`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks._quality_methods import METHODS, Pair
from benchmarks._quality_report import write_report
from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.experiment import stages
from rebasin_lt.experiment.file_names import FINAL
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.lit.data.folder import class_names
from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.lit.weight_decay import share_left
from rebasin_lt.process.progress_line import ProgressLine
from rebasin_lt.pruning.magnitude import one_shot_like
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.memory import init_memory
from rebasin_lt.pruning.signs import sign_agreement
from rebasin_lt.storage.files import write_json
from rebasin_lt.symmetry.trace import trace_symmetry

EVERY = tuple(METHODS)
OFFERED = tuple(name for name, (title, _) in METHODS.items() if not title.startswith("tried"))


@dataclass(frozen=True)
class Setting:
    """What is trained, how many pairs, and which methods' masks are trained under; the last target is judged."""

    title: str
    recipe: Recipe
    num_pairs: int
    trained: tuple[str, ...] = EVERY
    methods: tuple[str, ...] = EVERY  # all that are judged
    own_mask: bool = False  # whether B is pruned too, for the ceiling
    num_images: int | None = None  # to match on and to correct statistics with
    num_test_images: int | None = None  # to measure barriers on
    num_alphas: int = 5


def settings(work: Path) -> dict[str, Setting]:
    """By name, in the order in which they run; images of CIFAR-10 lie where `prepare` puts them."""
    cifar = {"name": "image_folder", "batch_size": 128, "resident": True}
    small = {**cifar, "root": str(work / "images16"), "image_size": 16}
    large = {**cifar, "root": str(work / "images32"), "image_size": 32, "train_size": 5000}
    digits = Recipe(targets=(0.9, 0.95, 0.98), rewinds=("0it", "1ep"))
    resnet20 = Recipe(
        data=small,
        network={"arch": "resnet20", "width": 1, "num_classes": 10, "input_shape": [3, 16, 16]},
        targets=(0.95,),
        fraction=0.35,
        rewinds=("0it", "2ep"),  # 10 % of the dense training
        # The decay forgets the initialisation (`share_left`), as the paper's 200 epochs do: with 5e-4, a training this
        # short would make masks of the initial weights, which no permutation of trained units can move.
        dense={"learning_rate": 0.1, "weight_decay": 8e-3},
        prune={"learning_rate": 0.02, "weight_decay": 8e-3},
        sparse={"learning_rate": 0.05, "weight_decay": 1e-3},
        dense_epochs=20,
        epochs_per_round=1,
        sparse_epochs=6,
    )
    # Only the line between these is measured: their masks come from one round of pruning.
    line = replace(resnet20, fraction=0.95)
    wide = replace(line, network={**resnet20.network, "width": 4})
    # The paper's VGG11 has no batch norm; without it, nothing is learnt in a training this short.
    vgg11 = replace(
        line,
        data=large,
        network={"arch": "vgg11_bn", "width": 0.25, "num_classes": 10, "input_shape": [3, 32, 32]},
        dense={"learning_rate": 0.05, "weight_decay": 1.5e-2},
    )
    # Conv-4 has no batch norm; a quarter of its width learns in seconds per epoch. Quality rewinds to the last moment.
    conv4 = Recipe(
        data={
            **{"name": "fashion_mnist", "root": "/usr/share/datasets/fashion-mnist", "train_size": 10000},
            **{"batch_size": 128, "resident": True},
        },
        network={"arch": "conv4", "width": 0.25, "num_classes": 10, "input_shape": [1, 28, 28]},
        targets=(0.95,),
        fraction=0.35,
        rewinds=("0it", "2ep", "5ep", "1ep"),
        dense={"learning_rate": 0.05, "weight_decay": 1e-2},
        prune={"learning_rate": 0.02, "weight_decay": 1e-2},
        sparse={"learning_rate": 0.05, "weight_decay": 1e-3},
        dense_epochs=12,
        epochs_per_round=1,
        sparse_epochs=5,
    )
    few = (
        "naive",
        "random",
        "paper",
        "correlation-sum",
        "joint-correlation",
        "pruned-weights",
        "frank-wolfe",
    )
    few_images: dict[str, Any] = {"num_images": 2000, "num_test_images": 2000, "num_alphas": 3, "methods": OFFERED}
    return {
        "digits": Setting("MLP, digits, sparsity .98", digits, 20, own_mask=True, num_alphas=11),
        "resnet20": Setting(
            *("ResNet20×1, CIFAR-10 (JPEG, 16×16), sparsity .95", resnet20, 3, few),
            num_images=4000,
            num_test_images=2500,
            methods=OFFERED,
        ),
        "conv4": Setting(
            *("Conv-4×¼, Fashion-MNIST, sparsity .95", conv4, 5, few),
            num_images=4000,
            num_test_images=2500,
            methods=OFFERED,
        ),
        "vgg11": Setting("VGG11×¼ with batch norm, CIFAR-10 (JPEG)", vgg11, 3, (), **few_images),
        "resnet20x4": Setting("ResNet20×4, CIFAR-10 (JPEG, 16×16)", wide, 3, (), **few_images),
    }


def prepare(root: Path, folder: Path, size: int, per_class: int = 1000) -> None:
    """Write the first `per_class` training images of every class, and all test images, at size × size pixels."""
    from PIL import Image

    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as temporary:
        for part, count in (("train", per_class), ("test", None)):
            for name in class_names(root / part):
                (Path(temporary) / part / name).mkdir(parents=True)
                for path in sorted((root / part / name).iterdir())[:count]:
                    with Image.open(path) as image:
                        image.resize((size, size), Image.Resampling.BOX).save(
                            Path(temporary) / part / name / f"{path.stem}.png"
                        )
        shutil.copytree(temporary, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, then write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--settings", default="digits", help="digits, resnet20, conv4, vgg11, resnet20x4, by commas")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="folder of all trained networks")
    parser.add_argument("--root", type=Path, default=Path("data"), help="class folders of CIFAR-10")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of quality.json")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    known = settings(given.work)
    for name in given.settings.split(","):
        if name not in known:
            parser.error(f"setting {name!r} is not known, expected {', '.join(known)}")
        data = known[name].recipe.data
        if "image_size" in data:
            prepare(given.root, Path(data["root"]), data["image_size"])
        records = run(name, known[name], given.work / name)
        results = given.out / "quality.json"
        content = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
        content[name] = {"title": known[name].title, "torch": str(torch.__version__), "records": records}
        write_json(results, content)
    write_report(given.out / "quality.json")


def run(name: str, setting: Setting, folder: Path) -> list[dict[str, Any]]:
    """Every record of a setting: one per pair and method, and one per control."""
    records: list[dict[str, Any]] = []
    with ProgressLine(f"quality {name}") as line:
        for index in range(setting.num_pairs):
            line("pair", index, setting.num_pairs)
            records += _pair_records(setting, folder / f"pair={index}", index)
    return records


def _pair_records(setting: Setting, folder: Path, index: int) -> list[dict[str, Any]]:
    recipe = setting.recipe
    seeds = {role: 10 * index + k for k, role in enumerate(("a", "b", "imp", "sparse", "own"))}
    dense = {role: folder / f"dense_{role}" for role in "ab"}
    dense_accuracy = {role: stages.train_dense(path, recipe, seeds[role])["test/top1"] for role, path in dense.items()}
    stages.prune(folder / "imp", recipe, dense["a"], seeds["imp"])
    pair = _open(setting, folder, index)
    records = [{"method": f"dense {role}", "accuracy": accuracy} for role, accuracy in dense_accuracy.items()]
    records[0]["memory"] = _memory(setting, folder, pair)
    own = _one_shot(pair)
    for method in setting.methods:
        records.append(_judged(setting, folder, pair, method, own, seeds["sparse"]))
    if setting.trained:
        from_b = stages.rewind_file(dense["b"], recipe.rewinds[-1])
        own.save(folder / "controls" / "one-shot.mask.safetensors")
        controls = {"LTH": (_mask_path(setting, folder), stages.rewind_file(dense["a"], recipe.rewinds[-1]))}
        controls["B's one-shot mask"] = (folder / "controls" / "one-shot.mask.safetensors", from_b)
        if setting.own_mask:
            stages.prune(folder / "own", recipe, dense["b"], seeds["own"])
            controls["B's own mask"] = (stages.mask_file(folder / "own", recipe.targets[-1]), from_b)
        for method, (mask, init) in controls.items():
            records.append({"method": method, "accuracy": _train(setting, folder, method, mask, init, seeds["sparse"])})
    return [{"pair": index, **record} for record in records]


def _open(setting: Setting, folder: Path, index: int) -> Pair:
    recipe = setting.recipe
    data = build_data(**recipe.data)
    batches = list(data.sweep("train", num_images=setting.num_images, batch_size=500))
    source, reference = (load_network(folder / f"dense_{role}" / FINAL).network for role in "ab")
    early = [load_network(stages.rewind_file(folder / f"dense_{role}", recipe.rewinds[-1])).network for role in "ab"]
    target = recipe.targets[-1]
    ticket = load_network(folder / "imp" / "imp" / f"sparsity-{target:g}.ckpt").network
    symmetry = trace_symmetry(source, batches[0][0][:2])
    return Pair(
        source,
        reference,
        (early[0], early[1]),
        ticket,
        Mask.load(_mask_path(setting, folder)),
        symmetry,
        batches,
        index,
    )


def _memory(setting: Setting, folder: Path, pair: Pair) -> dict[str, float]:
    """How much A's mask still holds of A's initialisation."""
    initial = load_network(stages.rewind_file(folder / "dense_a", "0it")).network.state_dict()
    return {**init_memory(pair.mask, initial), "left": share_left(folder / "dense_a" / FINAL)}


def _mask_path(setting: Setting, folder: Path) -> Path:
    return stages.mask_file(folder / "imp", setting.recipe.targets[-1])


def _one_shot(pair: Pair) -> Mask:
    """B's own mask by magnitude, at the sparsity of A's."""
    return one_shot_like(pair.reference.state_dict(), pair.mask)


def _judged(setting: Setting, folder: Path, pair: Pair, method: str, own: Mask, seed: int) -> dict[str, Any]:
    """The record of one method; read, if it is there."""
    path = folder / "judged" / f"{method}.json"
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    began = time.process_time()
    permutation = METHODS[method][1](pair)
    record: dict[str, Any] = {"method": method, "seconds": time.process_time() - began}
    mask = Mask(pair.symmetry.permute(pair.mask, permutation))
    record["overlap"] = mask.overlap(own)
    ticket = pair.symmetry.permute(pair.ticket.state_dict(), permutation)
    record["agreement"] = sign_agreement(mask.signed_by(ticket), pair.reference.state_dict())
    permuted = pair.symmetry.permute(pair.source.state_dict(), permutation)
    test = list(build_data(**setting.recipe.data).sweep("test", num_images=setting.num_test_images, batch_size=500))
    normalised = any(isinstance(module, _BatchNorm) for module in pair.reference.modules())
    for correction in ("none", "bn_reset" if normalised else "repair"):
        barrier = loss_barrier(
            pair.reference,
            permuted,
            pair.reference,
            test,
            alphas=setting.num_alphas,
            correction=correction,
            correction_batches=pair.batches,
        )
        middle = len(barrier.alphas) // 2
        record[correction] = {
            "loss_barrier": barrier.loss_barrier,
            "error_barrier": barrier.error_barrier,
            "midpoint_accuracy": 1 - barrier.error[middle],
        }
    if method in setting.trained:
        permuted_mask = folder / "masks" / f"{method}.mask.safetensors"
        mask.save(permuted_mask)
        init = stages.rewind_file(folder / "dense_b", setting.recipe.rewinds[-1])
        record["accuracy"] = _train(setting, folder, method, permuted_mask, init, seed)
    write_json(path, record)
    return record


def _train(setting: Setting, folder: Path, method: str, mask: Path, init: Path, seed: int) -> float:
    """Test accuracy in % after training under a mask."""
    run_folder = folder / "sparse" / method.replace(" ", "-").replace("'", "")
    recipe = setting.recipe
    return stages.train_sparse(run_folder, recipe, mask, init, seed, recipe.epochs_after(recipe.rewinds[-1]))[
        "test/top1"
    ]


if __name__ == "__main__":
    main()
