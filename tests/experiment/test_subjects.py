"""What analyses are given: networks that can be compared, and the images that they were trained on."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.subjects import load_networks, open_data, open_pair, resolve_device
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.settings.options import PermuteOptions


def checkpoint(path: Path, data: str | None = "digits", **settings: Any) -> str:
    """One of a classifier of the settings `width` and `num_classes`; all others are the dataset's."""
    module = Classifier(**{name: settings.pop(name) for name in ("width", "num_classes") if name in settings})
    about = {"format_version": 1, **module.architecture(), "data": data and {"name": data, **settings}}
    torch.save({"state_dict": module.state_dict(), "rebasin_lt": about}, path)
    return str(path)


def load(*paths: str) -> list[Any]:
    return load_networks(dict(zip(("--ckpt-a", "--ckpt-b"), paths, strict=True)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"width": 2}, "--ckpt-a .*a.ckpt has width 1 and --ckpt-b .*b.ckpt has 2: only networks of one architecture"),
        ({"num_classes": 7}, "--ckpt-a .*a.ckpt has num_classes 10 and --ckpt-b .*b.ckpt has 7"),
        (
            {"data": "cifar10"},
            "a.ckpt was trained on digits and --ckpt-b .*b.ckpt on cifar10: only networks of one data",
        ),
    ],
)
def test_networks_that_differ_are_refused_with_both_values(tmp_path: Path, other: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(checkpoint(tmp_path / "a.ckpt"), checkpoint(tmp_path / "b.ckpt", **other))


def test_network_that_does_not_name_its_data_can_be_compared(tmp_path: Path) -> None:
    assert len(load(checkpoint(tmp_path / "a.ckpt"), checkpoint(tmp_path / "b.ckpt", data=None))) == 2


def test_data_is_that_of_training_or_named(tmp_path: Path) -> None:
    known, unknown = load(checkpoint(tmp_path / "a.ckpt"), checkpoint(tmp_path / "b.ckpt", data=None))
    assert open_data(known, "--ckpt-a a.ckpt").name == "digits"
    assert open_data(known, "--ckpt-a a.ckpt", "digits", "elsewhere").root == "elsewhere"
    assert open_data(unknown, "--ckpt-b b.ckpt", "digits").name == "digits"
    with pytest.raises(InputError, match="--ckpt-b b.ckpt does not say what it was trained on: give --data NAME"):
        open_data(unknown, "--ckpt-b b.ckpt")


def test_a_checkpoint_may_not_choose_which_code_is_imported(tmp_path: Path, monkeypatch) -> None:
    (known,) = load_networks({"--ckpt-a": checkpoint(tmp_path / "a.ckpt", data="tiny:Faint")})
    with pytest.raises(InputError, match=r"may not choose: name it too \(--data tiny:Faint\)"):
        open_data(known, "--ckpt-a a.ckpt")
    with pytest.raises(InputError, match="--data is digits, but --ckpt-a a.ckpt was trained on tiny:Faint"):
        open_data(known, "--ckpt-a a.ckpt", "digits")
    assert open_data(known, "--ckpt-a a.ckpt", "tiny:Faint").name == "tiny:Faint"
    package = types.ModuleType("exporting")
    package.Faint = tiny.Faint
    monkeypatch.setitem(sys.modules, "exporting", package)
    assert type(open_data(known, "--ckpt-a a.ckpt", "exporting:Faint")) is tiny.Faint


def test_a_class_that_moved_is_the_one_that_the_user_names(tmp_path: Path, monkeypatch) -> None:
    (script,) = load_networks({"--ckpt-a": checkpoint(tmp_path / "a.ckpt", data="__main__:Faint", batch_size=7)})
    with pytest.raises(InputError, match=r"name it too \(--data YOUR_SCRIPT:Faint\)"):
        open_data(script, "--ckpt-a a.ckpt")
    assert open_data(script, "--ckpt-a a.ckpt", "tiny:Faint").batch_size == 7
    with pytest.raises(InputError, match="--data is tiny:Unseeded, but .* trained on __main__:Faint"):
        open_data(script, "--ckpt-a a.ckpt", "tiny:Unseeded")
    (gone,) = load_networks({"--ckpt-a": checkpoint(tmp_path / "b.ckpt", data="gone:Faint")})
    monkeypatch.setattr(tiny.Faint, "name", "gone:Faint")  # as a class that `tiny` imports from there
    assert type(open_data(gone, "--ckpt-a b.ckpt", "tiny:Faint")) is tiny.Faint


def test_settings_that_a_checkpoint_could_not_say_are_not_guessed(tmp_path: Path) -> None:
    (unsaid,) = load_networks({"--ckpt-a": checkpoint(tmp_path / "a.ckpt", data="tiny:Faint", unsaid=True)})
    with pytest.raises(InputError, match="a.ckpt was trained on tiny:Faint with arguments that a checkpoint cannot"):
        open_data(unsaid, "--ckpt-a a.ckpt", "tiny:Faint")


def test_the_root_that_is_given_is_taken_instead_of_that_of_training(tmp_path: Path) -> None:
    (known,) = load_networks({"--ckpt-a": checkpoint(tmp_path / "a.ckpt", root="there", batch_size=7)})
    assert open_data(known, "--ckpt-a a.ckpt").root == "there"
    moved = open_data(known, "--ckpt-a a.ckpt", root="here")
    assert (moved.root, moved.batch_size) == ("here", 7)


def test_another_dataset_than_that_of_training_is_refused_with_both(tmp_path: Path) -> None:
    (known,) = load_networks({"--ckpt-a": checkpoint(tmp_path / "a.ckpt")})
    with pytest.raises(InputError, match="--data is cifar10, but --ckpt-a a.ckpt was trained on digits: other images"):
        open_data(known, "--ckpt-a a.ckpt", "cifar10")


def test_images_are_chosen_by_the_seed_and_are_the_same_in_every_pass(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.ckpt")
    options = PermuteOptions(ckpt_a=path, ckpt_b=path, num_images=60, batch_size=50, device="cpu")
    first, again, other = (open_pair(replace(options, seed=seed)) for seed in (1, 1, 2))
    batches = [torch.cat([images for images, _ in found.train()]) for found in (first, first, again, other)]
    assert [len(images) for images, _ in first.train()] == [50, 10]
    assert torch.equal(batches[0], batches[1])
    assert torch.equal(batches[0], batches[2])
    assert not torch.equal(batches[0], batches[3])
    assert sum(len(labels) for _, labels in first.test()) == 500


def test_device_that_is_not_there_is_refused() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="device 'warp' cannot be used here: .*"):
        resolve_device("warp")
