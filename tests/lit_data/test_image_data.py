"""Splits, sweeps, settings and refusals, on a dataset small enough to count."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.cli import LightningArgumentParser

import rebasin_lt.lit.data as datasets
from rebasin_lt.errors import InputError
from rebasin_lt.lit.data.registry import DATASETS, build_data


def numbers(loader) -> list[int]:
    """Which images came, by the value of the fixture's pixels."""
    mean, std = datasets.FashionMNIST.mean[0], datasets.FashionMNIST.std[0]
    return [round(value) for images, _ in loader for value in ((images[:, 0, 14, 14] * std + mean) * 255).tolist()]


def test_validation_images_are_held_out_by_a_seed_that_no_run_changes(fashion: Path) -> None:
    data = build_data("fashion_mnist", root=str(fashion), val_size=12)
    train, val = numbers(data.sweep("train")), numbers(data.sweep("val"))
    assert len(val) == 12
    assert sorted(train + val) == list(range(60))
    assert val != list(range(48, 60))
    other = build_data("fashion_mnist", root=str(fashion), val_size=12, seed=9, batch_size=7)
    assert numbers(other.sweep("val")) == val


def test_train_size_takes_a_subset_and_smaller_ones_lie_in_larger_ones(fashion: Path) -> None:
    sets = {}
    for size in (10, 30, None):
        data = build_data("fashion_mnist", root=str(fashion), val_size=12, train_size=size)
        sets[size] = set(numbers(data.sweep("train")))
        assert len(sets[size]) == (size or 48)
        assert not sets[size] & set(numbers(data.sweep("val")))
    assert sets[10] < sets[30] < sets[None]


def test_training_shuffles_and_drops_the_last_batch_and_evaluation_does_neither(fashion: Path) -> None:
    data = build_data("fashion_mnist", root=str(fashion), val_size=12, batch_size=10, augment=False)
    train = data.train_dataloader()
    assert len(train) == 4
    first = numbers(train)
    assert len(set(first)) == 40
    assert first != sorted(first)
    assert numbers(data.test_dataloader()) == numbers(data.predict_dataloader()) == list(range(20))
    assert numbers(data.val_dataloader()) == sorted(numbers(data.sweep("val")))


def test_only_training_images_are_augmented_and_only_if_asked(fashion: Path) -> None:
    def edges(loader) -> bool:
        """Whether black padding shows at the rim of an image that is not black itself."""
        return any((images[:, 0, 0].min(dim=1).values < images[:, 0, 14, 14] - 1e-3).any() for images, _ in loader)

    data = build_data("fashion_mnist", root=str(fashion), val_size=12, batch_size=10)
    assert edges(data.train_dataloader())
    assert edges(data.sweep("train", augment=True))
    for plain in (data.val_dataloader(), data.test_dataloader(), data.sweep("train"), data.sweep("test")):
        assert not edges(plain)
    assert not edges(build_data("fashion_mnist", root=str(fashion), val_size=2, augment=False).sweep("train"))


def test_sweep_repeats_itself_and_picks_images_by_seed(fashion: Path) -> None:
    data = build_data("fashion_mnist", root=str(fashion), val_size=12, batch_size=10)
    sweep = data.sweep("train", num_images=15, augment=True, seed=4)
    assert len(sweep) == 2
    first, second = (torch.cat([images for images, _ in sweep]) for _ in range(2))
    assert torch.equal(first, second)
    chosen = numbers(data.sweep("train", num_images=15, seed=4))
    assert len(set(chosen)) == 15
    assert set(chosen) <= set(numbers(data.sweep("train")))
    assert numbers(data.sweep("train", num_images=15, seed=5)) != chosen
    assert numbers(data.sweep("train", seed=4))[:15] == chosen
    assert [len(labels) for _, labels in data.sweep("test", batch_size=8)] == [8, 8, 4]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_sweep_is_in_an_order_of_its_own_whatever_the_order_of_the_files(fashion: Path, split: str) -> None:
    data = build_data("fashion_mnist", root=str(fashion), val_size=12)
    first, second = (numbers(data.sweep(split, seed=seed)) for seed in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)
    assert first != sorted(first)
    assert numbers(data.sweep(split, seed=0)) == first


def test_without_validation_images_there_is_no_loader(fashion: Path) -> None:
    data = build_data("fashion_mnist", root=str(fashion), val_size=0)
    assert data.val_dataloader() == []
    with pytest.raises(InputError, match="split is 'val', but fashion_mnist holds no images out: set val_size"):
        data.sweep("val")


@pytest.mark.parametrize("name", DATASETS)
def test_settings_build_the_same_data_again(name: str) -> None:
    data = build_data(name, root="somewhere", batch_size=3, val_size=4, train_size=5, augment=False, seed=6)
    settings = data.settings()
    assert settings["name"] == name
    assert "download" not in settings
    assert all(value is None or isinstance(value, str | int | float | bool) for value in settings.values())
    again = build_data(**settings)
    assert type(again) is type(data)
    assert again.settings() == settings
    assert {**settings, "root": "somewhere", "batch_size": 3, "val_size": 4, "train_size": 5, "seed": 6} == settings


@pytest.mark.parametrize("name", sorted(set(datasets.__all__) - {"ImageData", "ResidentImages"}))
@pytest.mark.parametrize("prefix", ["rebasin_lt.lit.data.", ""])
def test_lightning_cli_makes_every_class_from_yaml(name: str, prefix: str) -> None:
    from lightning import LightningDataModule

    parser = LightningArgumentParser()
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    config = f"data: {{class_path: {prefix}{name}, init_args: {{root: x, batch_size: 17, seed: 3}}}}"
    data = parser.instantiate_classes(parser.parse_string(config)).data
    assert type(data) is getattr(datasets, name)
    assert (data.batch_size, data.seed, data.augment) == (17, 3, True)


def test_unknown_names_and_arguments_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"data is 'cifar11', which is not known \(did you mean cifar1\w+\?\): expected d"
    ):
        build_data("cifar11")
    with pytest.raises(
        InputError, match=r"data is 'quux', which is not known: expected digits, fashion_mnist, cifar10"
    ):
        build_data("quux")
    with pytest.raises(InputError, match="data digits has no argument 'download': expected root, batch_size"):
        build_data("digits", download=True)


@pytest.mark.parametrize(
    ("argument", "value", "least"),
    [("batch_size", 0, 1), ("val_size", -1, 0), ("train_size", 0, 1), ("seed", -2, 0)],
)
def test_impossible_numbers_are_refused_at_once(argument: str, value: int, least: int) -> None:
    with pytest.raises(InputError, match=f"{argument} is {value}, expected at least {least}"):
        build_data("digits", **{argument: value})


def test_too_large_numbers_are_refused_in_setup(fashion: Path) -> None:
    root = str(fashion)
    with pytest.raises(InputError, match="val_size is 60, but fashion_mnist has 60 images"):
        build_data("fashion_mnist", root=root, val_size=60).setup("fit")
    with pytest.raises(InputError, match=r"train_size is 51, but fashion_mnist has 50 .* \(60 less 10 held out\)"):
        build_data("fashion_mnist", root=root, val_size=10, train_size=51).setup("fit")
    with pytest.raises(InputError, match=r"batch_size is 51, but fashion_mnist has 50 training images .* at most 50"):
        build_data("fashion_mnist", root=root, val_size=10, batch_size=51).train_dataloader()
    data = build_data("fashion_mnist", root=root, val_size=10)
    with pytest.raises(InputError, match="num_images is 51, but train of fashion_mnist has 50 images"):
        data.sweep("train", num_images=51)
    with pytest.raises(InputError, match="split is 'all', expected train, val or test"):
        data.sweep("all")


def test_setup_reads_only_what_the_stage_needs(fashion: Path) -> None:
    for file in fashion.glob("t10k*"):
        file.unlink()
    data = build_data("fashion_mnist", root=str(fashion), val_size=10)
    data.setup("fit")
    with pytest.raises(InputError, match="t10k-images"):
        data.setup("test")
