"""The settings of `benchmarks.quality`: what is trained, how many pairs, and what is measured on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks._quality_methods import METHODS
from rebasin_lt.experiment.recipe import Recipe

OFFERED = tuple(name for name, (title, _) in METHODS.items() if not title.startswith("tried"))


@dataclass(frozen=True)
class Setting:
    """What is trained, how many pairs, and which methods' masks are trained under; the last target is judged."""

    title: str
    recipe: Recipe
    num_pairs: int
    trained: tuple[str, ...]
    methods: tuple[str, ...]  # all that are judged
    screened: tuple[str, ...] = ()  # methods of which no barrier is measured
    num_votes: int = 0  # masks of so many A, all moved to one B, that vote on a mask
    own_mask: bool = False  # whether B is pruned too, for the ceiling
    num_images: int | None = None  # to match on and to correct statistics with
    num_test_images: int | None = None  # to measure barriers on
    num_alphas: int = 5  # of the line between the networks; 0 leaves it out


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
    moments = ("signs-early", "composed")
    every = tuple(method for method in METHODS if method not in moments)
    screened = (*moments, "straight-through", "counted-signs")
    few = (
        "naive",
        "random",
        "paper",
        "correlation-sum",
        "joint-correlation",
        "pruned-weights",
        "frank-wolfe",
        "signs",
    )
    candidates = ("kept-frank-wolfe", *screened)
    conv = ("naive", "pruned-weights", "signs")
    few_images: dict[str, Any] = {"num_images": 2000, "num_test_images": 2000, "num_alphas": 3, "methods": OFFERED}
    return {
        "digits": Setting(
            "MLP, digits, sparsity .98",
            digits,
            20,
            tuple(METHODS),
            every,
            moments,
            own_mask=True,
            num_votes=5,
            num_alphas=11,
        ),
        "resnet20": Setting(
            *("ResNet20×1, CIFAR-10 (JPEG, 16×16), sparsity .95", resnet20, 3, (*few, *candidates)),
            num_images=4000,
            num_test_images=2500,
            methods=tuple(method for method in OFFERED if method != "kept-frank-wolfe"),
            screened=candidates,
        ),
        "conv4": Setting(
            *("Conv-4×¼, Fashion-MNIST, sparsity .95", conv4, 3, (*conv, *candidates), conv),
            num_images=4000,
            screened=candidates,
            num_alphas=0,
        ),
        "vgg11": Setting("VGG11×¼ with batch norm, CIFAR-10 (JPEG)", vgg11, 3, (), **few_images),
        "resnet20x4": Setting("ResNet20×4, CIFAR-10 (JPEG, 16×16)", wide, 3, (), **few_images),
    }
