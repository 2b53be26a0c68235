"""Each dataset: what it reads, from where, and what it says when that is missing or broken."""

from __future__ import annotations

import builtins
import gzip
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from rebasin_lt.cli import main
from rebasin_lt.commands.run_settings import may_differ
from rebasin_lt.errors import BrokenFileError, InputError, RebasinError
from rebasin_lt.lit.data import digits
from rebasin_lt.lit.data.registry import build_data


def everything(data, split: str) -> tuple[Tensor, Tensor]:
    """All images of a split as they lie on disk (0 to 255) and in the order of the files, and labels."""
    sweep = data.sweep(split)
    order = sweep.sampler.indices.argsort()
    batches = list(sweep)
    normalise = data.normalisation()
    pixels = torch.cat([images for images, _ in batches]) * normalise.std + normalise.mean
    return pixels.round().to(torch.uint8)[order], torch.cat([labels for _, labels in batches])[order]


def test_digits_are_split_by_a_fixed_seed_without_overlap() -> None:
    data, other = build_data("digits", seed=1), build_data("digits", seed=2)
    parts = {split: everything(data, split) for split in ("train", "val", "test")}
    assert {split: len(labels) for split, (_, labels) in parts.items()} == {"train": 1000, "val": 297, "test": 500}
    for split, (pixels, _) in parts.items():
        assert torch.equal(everything(other, split)[0], pixels)
    together = torch.cat([pixels.flatten(1) for pixels, _ in parts.values()])
    from sklearn.datasets import load_digits

    original = torch.from_numpy(load_digits().data).to(torch.uint8)
    assert sorted(map(tuple, together.tolist())) == sorted(map(tuple, original.tolist()))


def test_digits_are_normalised_to_mean_0_and_deviation_1() -> None:
    images = torch.cat([
        images for split in ("train", "val", "test") for images, _ in build_data("digits").sweep(split)
    ])
    assert images.shape[1:] == build_data("digits").input_shape
    assert images.mean().abs() < 1e-3
    assert abs(images.std() - 1) < 1e-3


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    digits._read.cache_clear()
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"data digits needs scikit-learn: pip install rebasin-lt\[demo\]"):
        build_data("digits").setup()


def test_smaller_images_are_means_of_the_pixels_that_each_covers(cifar10: Path) -> None:
    whole, labels = everything(build_data("cifar10", root=str(cifar10), val_size=0), "test")
    data = build_data("cifar10", root=str(cifar10), val_size=0, image_size=16)
    pixels, same = everything(data, "test")
    quarters = whole.double().unflatten(3, (16, 2)).unflatten(2, (16, 2)).mean((3, 5))
    assert data.input_shape == pixels.shape[1:] == (3, 16, 16)
    assert (pixels - quarters).abs().max() <= 0.5  # rounded to a whole
    assert torch.equal(labels, same)


@pytest.mark.parametrize("resident", [False, True])
def test_images_lie_on_the_training_device_or_in_the_hosts_memory(cifar10: Path, resident: bool) -> None:
    data = build_data("cifar10", root=str(cifar10), val_size=0, resident=resident)
    assert data.settings()["resident"] is resident
    loader = data.sweep("test", device="meta")
    assert loader.images.device.type == ("meta" if resident else "cpu")
    assert next(iter(loader))[0].device.type == "meta"


def test_a_run_goes_on_wherever_its_images_lie(cifar10: Path, tmp_path: Path) -> None:
    words = ["fit", "--model=Classifier", "--model.arch=mlp", "--model.input_shape=[3,32,32]", "--data=CIFAR10"]
    words += [f"--data.root={cifar10}", "--data.val_size=0", "--data.batch_size=25", "--trainer.max_epochs=1"]
    words += ["--trainer.accelerator=cpu", f"--trainer.default_root_dir={tmp_path / 'run'}"]
    assert main(words) == 0
    assert main([*words, "--data.resident=false"]) == 0
    config = tmp_path / "run" / "config.yaml"  # as a release wrote it in which the class was named by its place
    former = config.read_text().replace("rebasin_lt.CIFAR10", "rebasin_lt.lit.data.CIFAR10")
    assert former != config.read_text()
    config.write_text(former)
    assert main(words) == 0


@pytest.mark.parametrize("path", ["rebasin_lt.lit.data.ImageFolder", "rebasin_lt.lit.data.Digits", "mine.CIFAR10"])
def test_where_images_lie_may_not_change_where_augmentation_depends_on_it_or_is_not_ours(path: str) -> None:
    assert "data.init_args.resident" in may_differ({"data": {"class_path": "rebasin_lt.lit.data.SVHN"}})
    assert "data.init_args.resident" not in may_differ({"data": {"class_path": path}})


def test_smaller_images_are_shifted_less(cifar10: Path) -> None:
    paddings = [
        build_data("cifar10", root=str(cifar10), val_size=0, image_size=size).open_part("train").padding
        for size in (None, 32, 16, 8)
    ]
    assert paddings == [4, 4, 2, 1]


@pytest.mark.parametrize("size", [0, 33])
def test_images_are_never_made_larger(size: int) -> None:
    with pytest.raises(InputError, match=f"image_size is {size}, expected 1 to 32, the side of cifar10's images"):
        build_data("cifar10", image_size=size)


@pytest.mark.parametrize("unzip", [False, True])
@pytest.mark.parametrize("folder", ["", "FashionMNIST/raw"])
def test_fashion_mnist_reads_idx_files_zipped_or_not_in_both_places(fashion: Path, folder: str, unzip: bool) -> None:
    for file in list(fashion.glob("*.gz")):
        target = fashion / folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
        if unzip:
            target.with_suffix("").write_bytes(gzip.decompress(target.read_bytes()))
            target.unlink()
    data = build_data("fashion_mnist", root=str(fashion), val_size=0)
    pixels, labels = everything(data, "train")
    assert pixels.shape == (60, 1, 28, 28)
    assert pixels[:, 0, 3, 4].tolist() == list(range(60))
    assert labels.tolist() == [n % 10 for n in range(60)]
    assert len(everything(data, "test")[1]) == 20


@pytest.mark.parametrize("damage", ["truncate", "dims", "garbage", "zip"])
def test_fashion_mnist_refuses_damaged_files(fashion: Path, damage: str) -> None:
    path = fashion / "train-images-idx3-ubyte.gz"
    content = gzip.decompress(path.read_bytes())
    if damage == "zip":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        changed = {"truncate": content[:-1], "dims": content[:3] + b"\1" + content[4:], "garbage": b"xx"}
        path.write_bytes(gzip.compress(changed[damage]))
    with pytest.raises(BrokenFileError, match=r"train-images-idx3-ubyte.gz (cannot be read|is not a whole IDX file)"):
        build_data("fashion_mnist", root=str(fashion)).setup("fit")


def test_fashion_mnist_refuses_images_without_labels(fashion: Path) -> None:
    (fashion / "t10k-labels-idx1-ubyte.gz").rename(fashion / "train-labels-idx1-ubyte.gz")
    with pytest.raises(BrokenFileError, match="60 train images and 20 labels"):
        build_data("fashion_mnist", root=str(fashion)).setup("fit")


def test_cifar10_reads_the_binary_files(cifar10: Path) -> None:
    pixels, labels = everything(build_data("cifar10", root=str(cifar10), val_size=0), "train")
    first = np.fromfile(cifar10 / "cifar-10-batches-bin" / "data_batch_1.bin", np.uint8)[:3073]
    assert pixels.shape == (50, 3, 32, 32)
    assert pixels[0].flatten().tolist() == first[1:].tolist()
    assert labels.tolist() == list(range(10)) * 5
    assert len(everything(build_data("cifar10", root=str(cifar10)), "test")[1]) == 10


def test_cifar100_reads_the_fine_labels(cifar100: Path) -> None:
    data = build_data("cifar100", root=str(cifar100), val_size=0)
    assert everything(data, "train")[1].tolist() == [50 + n for n in range(40)]
    assert data.num_classes == 100


def test_cifar_refuses_damaged_and_missing_binary_files(cifar10: Path) -> None:
    folder = cifar10 / "cifar-10-batches-bin"
    whole = (folder / "data_batch_2.bin").read_bytes()
    for content in (whole[:-1], b"", b"\x0b" + whole[1:]):
        (folder / "data_batch_2.bin").write_bytes(content)
        with pytest.raises(BrokenFileError, match=r"data_batch_2.bin is not a whole file of 3073-byte records"):
            build_data("cifar10", root=str(cifar10)).setup("fit")
    (folder / "data_batch_2.bin").unlink()
    with pytest.raises(InputError, match=r"data_batch_2.bin of cifar10 is not in .*cifar-10-batches-bin: set root"):
        build_data("cifar10", root=str(cifar10)).setup("fit")


@pytest.fixture
def cifar10_pickles(cifar10: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same images as Python pickles, and torchvision expecting their checksums."""
    folder = cifar10 / "cifar-10-batches-py"
    folder.mkdir()
    listed: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for path in sorted((cifar10 / "cifar-10-batches-bin").iterdir()):
        records = np.fromfile(path, np.uint8).reshape(-1, 3073)
        content = pickle.dumps({"data": records[:, 1:], "labels": records[:, 0].tolist()})
        (folder / path.stem).write_bytes(content)
        part = "test_list" if "test" in path.stem else "train_list"
        listed[part].append([path.stem, hashlib.md5(content).hexdigest()])
        path.unlink()
    (cifar10 / "cifar-10-batches-bin").rmdir()
    meta = pickle.dumps({"label_names": [str(n) for n in range(10)]})
    (folder / "batches.meta").write_bytes(meta)
    for name, value in listed.items():
        monkeypatch.setattr(torchvision.datasets.CIFAR10, name, value)
    monkeypatch.setitem(torchvision.datasets.CIFAR10.meta, "md5", hashlib.md5(meta).hexdigest())
    return cifar10


def test_cifar10_reads_torchvisions_files(cifar10_pickles: Path) -> None:
    pixels, labels = everything(build_data("cifar10", root=str(cifar10_pickles), val_size=0), "train")
    stored = pickle.loads((cifar10_pickles / "cifar-10-batches-py" / "data_batch_1").read_bytes())
    assert pixels[3].flatten().tolist() == stored["data"][3].tolist()
    assert labels.tolist() == list(range(10)) * 5


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
def test_cifar10_never_unpickles_a_file_that_is_not_the_original(cifar10_pickles: Path, file: str) -> None:
    (cifar10_pickles / "cifar-10-batches-py" / file).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(BrokenFileError, match=r"cifar-10-batches-py is incomplete or not the original files"):
        build_data("cifar10", root=str(cifar10_pickles)).setup("fit")


def test_svhn_reads_matlab_files_and_label_10_as_0(svhn: Path) -> None:
    pixels, labels = everything(build_data("svhn", root=str(svhn), val_size=0), "train")
    from scipy.io import loadmat

    original = loadmat(svhn / "train_32x32.mat")["X"]
    assert pixels[7].permute(1, 2, 0).tolist() == original[..., 7].tolist()
    assert labels.tolist() == [(n % 10 + 1) % 10 for n in range(30)]


def test_svhn_refuses_damaged_files(svhn: Path) -> None:
    path = svhn / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BrokenFileError, match=r"train_32x32.mat is not a readable MATLAB file"):
        build_data("svhn", root=str(svhn)).setup("fit")
    from scipy.io import savemat

    savemat(path, {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((5, 1), np.uint8)})
    with pytest.raises(BrokenFileError, match=r"X of shape \(32, 32, 3, 4\), expected \(32, 32, 3, 5\)"):
        build_data("svhn", root=str(svhn)).setup("fit")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("fashion_mnist", r"train-images-idx3-ubyte\[.gz\] of fashion_mnist is not in .*raw or "),
        ("cifar10", "the folder of cifar10 is not in .*cifar-10-batches-bin or .*cifar-10-batches-py"),
        ("cifar100", "the folder of cifar100 is not in .*cifar-100-binary or .*cifar-100-python"),
        ("svhn", "train_32x32.mat of svhn is not in "),
    ],
)
def test_a_missing_dataset_says_where_it_was_looked_for_and_what_to_do(name: str, missing: str, tmp_path: Path) -> None:
    data = build_data(name, root=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=rf"root is '.*nowhere', but {missing}.*: set root .*, or download: true"):
        data.setup("fit")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["FashionMNIST", "CIFAR10", "CIFAR100", "SVHN"])
def test_torchvision_downloads_both_parts_and_only_when_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []
    monkeypatch.setattr(torchvision.datasets, name, lambda *args, **kwargs: calls.append((args, kwargs)))
    registered = {"FashionMNIST": "fashion_mnist"}.get(name, name.lower())
    build_data(registered, root="here").prepare_data()
    assert calls == []
    build_data(registered, root="here", download=True).prepare_data()
    assert all(args == ("here",) and kwargs["download"] is True for args, kwargs in calls)
    parts = [kwargs.get("train", kwargs.get("split")) for _, kwargs in calls]
    assert parts == (["train", "test"] if name == "SVHN" else [True, False])


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args, **kwargs):
        raise RuntimeError("no route to host\nmany more lines")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    with pytest.raises(RebasinError, match=r"^download of cifar10 to here failed: no route to host$"):
        build_data("cifar10", root="here", download=True).prepare_data()


@pytest.mark.parametrize(
    ("name", "padding", "flip"),
    [("cifar10", 4, True), ("cifar100", 4, True), ("svhn", 4, False), ("fashion_mnist", 2, True), ("digits", 0, False)],
)
def test_augmentation_and_normalisation_are_as_documented(name: str, padding: int, flip: bool) -> None:
    data = build_data(name)
    assert (data.padding, data.flip) == (padding, flip)
    documented = " ".join((type(data).__doc__ or "").split())
    for value in (*data.mean, *data.std):
        assert f"{value:.3f}".lstrip("0") in documented or f"{value:.4f}".lstrip("0") in documented
