"""Class folders: decoding, augmentation by worker processes, resident or not, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.lit.data import image_folder
from rebasin_lt.lit.data.folder import FolderImages, FolderLoader
from rebasin_lt.lit.data.image_folder import ImageFolder
from rebasin_lt.lit.data.imagenet import ImageNet
from rebasin_lt.lit.data.resident import ResidentLoader


def all_of(loader) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(loader)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def test_images_and_labels_are_those_of_the_files(folders) -> None:
    root = folders({"train": 2, "test": 1})
    data = ImageFolder(root=str(root), num_workers=0)
    assert data.num_classes == 3
    sweep = data.sweep("train")
    images, labels = (part[sweep.sampler.indices.argsort()] for part in all_of(sweep))  # as the files lie
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    original = torch.from_numpy(np.array(Image.open(root / "train" / "class_0001" / "1.png"))).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (data.mean, data.std))
    torch.testing.assert_close(images[3], (original - mean) / std, rtol=1e-5, atol=1e-6)


def test_resident_and_decoded_batches_are_equal(folders) -> None:
    root = str(folders({"train": 4, "test": 2}, size=(40, 36)))
    decoded, resident = (ImageFolder(root=root, num_workers=0, resident=r, image_size=24) for r in (False, True))
    for split in ("train", "test"):
        for ours, theirs in zip(all_of(decoded.sweep(split)), all_of(resident.sweep(split)), strict=True):
            assert torch.equal(ours, theirs)
    assert next(iter(resident.sweep("train", augment=True)))[0].shape[1:] == resident.input_shape == (3, 24, 24)


def test_images_are_resident_where_they_are_small(folders, monkeypatch) -> None:
    root = str(folders({"train": 4, "test": 1}, size=(8, 8)))

    def kind(limit: int, resident: bool | None = None) -> type:
        monkeypatch.setattr(image_folder, "SMALL", limit)
        return type(ImageFolder(root=root, num_workers=0, image_size=8, resident=resident).sweep("train"))

    size = 12 * 3 * 10 * 10  # a pixel of padding on every side
    assert kind(size) is kind(0, True) is ResidentLoader
    assert kind(size - 1) is kind(size, False) is FolderLoader


def test_files_are_decoded_once_in_a_process_and_again_where_one_is_another(folders, monkeypatch) -> None:
    """The stages of a study open the same files: all of CIFAR-10 takes half a minute of a core each time."""
    root, counted, decode = folders({"train": 2, "test": 1}), [], FolderImages.decode
    monkeypatch.setattr(FolderImages, "decode", lambda self, index: counted.append(index) or decode(self, index))

    def first(size: int = 8, of: type = ImageFolder) -> torch.Tensor:
        counted.clear()
        data = of(root=str(root), num_workers=0, image_size=size, resident=True, seed=len(counted))
        return data.sweep("train").images.pixels

    before = first()
    assert len(counted) == 6
    assert torch.equal(first(), before)
    assert not counted
    assert first(size=12).shape[-1] == 14
    assert len(counted) == 6
    assert torch.equal(first(of=_Upright), before)
    assert len(counted) == 6, "transforms of a subclass may be any"
    Image.new("RGB", (9, 9), "white").save(root / "train" / "class_0000" / "0.png")
    assert not torch.equal(first(), before)
    assert len(counted) == 6


class _Upright(ImageFolder):
    def transforms(self):
        return super().transforms()


@pytest.mark.parametrize("resident", [False, True])
def test_augmentation_depends_on_seed_and_epoch_alone(folders, resident: bool) -> None:
    root = str(folders({"train": 4, "test": 1}))

    def epochs(num_workers: int, numbers=(0, 1, 2), seed: int = 0) -> list[torch.Tensor]:
        data = ImageFolder(root=root, num_workers=num_workers, resident=resident, seed=seed, batch_size=5)
        loader = data.train_dataloader()
        made = []
        for epoch in numbers:
            loader.sampler.set_epoch(epoch)
            made.append(all_of(loader)[0])
        return made

    first = epochs(0)
    torch.manual_seed(7)
    assert all(torch.equal(a, b) for a, b in zip(first, epochs(2), strict=True))
    assert torch.equal(epochs(0, (2,))[0], first[2])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(epochs(0, (0,), seed=1)[0], first[0])


def test_decoding_leaves_the_global_random_state_alone(folders) -> None:
    data = ImageFolder(root=str(folders({"train": 4, "test": 1})), num_workers=0, batch_size=4, resident=False)
    before = torch.get_rng_state()
    all_of(data.train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_augmentation_in_workers_makes_crops_and_flips_of_the_image(folders) -> None:
    root = folders({"train": 1, "test": 1}, classes=1, size=(8, 8))
    data = ImageFolder(root=str(root), num_workers=0, image_size=8, batch_size=1, resident=False)
    loader = data.train_dataloader()
    (plain,), _ = all_of(data.sweep("train"))
    black = -torch.tensor(data.mean) / torch.tensor(data.std)
    padded = black.view(3, 1, 1).repeat(1, 10, 10)
    padded[:, 1:9, 1:9] = plain
    possible = [p[:, i : i + 8, j : j + 8] for p in (padded, padded.flip(-1)) for i in range(3) for j in range(3)]
    seen = set()
    for epoch in range(150):
        loader.sampler.set_epoch(epoch)
        produced = next(iter(loader))[0][0]
        matches = [n for n, crop in enumerate(possible) if torch.allclose(crop, produced, atol=1e-5)]
        assert len(matches) == 1
        seen.update(matches)
    assert seen == set(range(18))


def test_which_folder_serves_which_split(folders, tmp_path) -> None:
    root = folders({"train": 8, "val": 2, "test": 3})
    data = ImageFolder(root=str(root), num_workers=0)
    data.setup()
    assert [len(all_of(data.sweep(split))[1]) for split in ("train", "val", "test")] == [24, 6, 9]
    with pytest.raises(InputError, match=r"val_size is 4, but .* has folders val and test: leave it at 0 to use val"):
        ImageFolder(root=str(root), val_size=4).setup("fit")
    for file in sorted((root / "test").rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    (root / "test").rmdir()
    data = ImageFolder(root=str(root), num_workers=0, val_size=4)
    assert [len(all_of(data.sweep(split))[1]) for split in ("train", "val", "test")] == [20, 4, 6]
    assert ImageFolder(root=str(root), num_workers=0).val_dataloader() == []


def test_refusals(folders, tmp_path) -> None:
    with pytest.raises(InputError, match=r"root: no class folders in .*nowhere/train: set root to the folder that hol"):
        ImageFolder(root=str(tmp_path / "nowhere")).setup("fit")
    root = folders({"train": 2, "test": 1})
    (root / "test" / "class_0001").rename(root / "test" / "other")
    with pytest.raises(InputError, match=r"class folders of .*test are not those of .*train"):
        ImageFolder(root=str(root)).setup("test")
    (root / "train" / "empty").mkdir()
    with pytest.raises(InputError, match=r"root has .*train, but no image in its class folder empty: files end in"):
        ImageFolder(root=str(root)).setup("fit")
    for argument, value in (("num_workers", -1), ("image_size", 0)):
        with pytest.raises(InputError, match=rf"{argument} is {value}, expected at least {value + 1}"):
            ImageFolder(**{argument: value})
    with pytest.raises(InputError, match="num_workers is -1, expected at least 0"):
        ImageNet(num_workers=-1)
    with pytest.raises(InputError, match="image_size is 0, expected at least 1"):
        ImageNet(image_size=0)


@pytest.mark.parametrize("resident", [False, True])
def test_a_file_that_is_no_image_is_named(folders, resident: bool) -> None:
    root = folders({"train": 2, "test": 1})
    (root / "train" / "class_0000" / "1.png").write_bytes(b"no image")
    data = ImageFolder(root=str(root), num_workers=0, resident=resident)
    with pytest.raises(BrokenFileError, match=r"class_0000/1.png is not a readable image"):
        all_of(data.sweep("train"))


def test_a_broken_file_is_named_by_workers_too(folders) -> None:
    root = folders({"train": 2, "test": 1})
    (root / "train" / "class_0000" / "1.png").write_bytes(b"no image")
    with pytest.raises(BrokenFileError, match=r"^[^\n]*class_0000/1.png is not a readable image[^\n]*$"):
        all_of(ImageFolder(root=str(root), num_workers=1, resident=False).sweep("train"))


def test_imagenet_crops_images_of_any_size_and_mode(folders) -> None:
    root = folders({"train": 1, "val": 1}, classes=1000, size=(20, 30))
    Image.new("L", (50, 20)).save(root / "train" / "class_0000" / "0.png")
    Image.new("RGBA", (300, 400)).save(root / "train" / "class_0001" / "0.png")
    Image.new("CMYK", (64, 64)).save(root / "val" / "class_0002" / "0.jpeg")
    data = ImageNet(root=str(root), val_size=10, num_workers=0, batch_size=4)
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert next(iter(loader))[0].shape == (4, 3, 224, 224)
    assert len(data.train_dataloader()) == 990 // 4
    images, labels = all_of(data.sweep("train", num_images=6, augment=True))
    assert images.shape == (6, 3, 224, 224)
    assert len(set(labels.tolist())) == 6


@pytest.mark.parametrize(("size", "resized"), [(224, 256), (64, 73)])
def test_imagenet_evaluates_the_centre_of_the_image_resized_to_256_of_224(folders, size: int, resized: int) -> None:
    from torchvision.transforms import v2

    root = folders({"train": 1, "val": 1}, classes=1000, size=(20, 30))
    data = ImageNet(root=str(root), val_size=1, num_workers=0, batch_size=2, image_size=size)
    assert data.input_shape == (3, size, size)
    image = Image.open(root / "val" / "class_0000" / "0.png")
    to_float = [v2.PILToTensor(), v2.Resize(resized), v2.CenterCrop(size), v2.ToDtype(torch.float32, scale=True)]
    expected = v2.Compose([*to_float, v2.Normalize(data.mean, data.std)])(image)
    torch.testing.assert_close(next(iter(data.test_dataloader()))[0][0], expected, rtol=1e-5, atol=1e-5)


def test_imagenet_wants_a_thousand_classes(folders) -> None:
    root = folders({"train": 1, "val": 1})
    with pytest.raises(InputError, match=r"root has 3 class folders in .*train, ImageNet has 1000: use image_folder"):
        ImageNet(root=str(root)).setup("fit")
