"""Training images per second and core: cut out of memory in one operation, against PIL and torchvision.

    python -m benchmarks.data_path [--images 6400] [--batch 128] [--repeats 7] [--device cpu] [--out benchmarks/results]
                                   [--page docs/performance.md]

Both sides shuffle, crop after padding 4 pixels, flip, normalise and make batches, in one process: theirs as the paper's
code (arXiv 2505.05143), a DataLoader over torchvision's transforms of one PIL image after another, which end on the
CPU; ours on the device. What is random has the same distribution (tests/lit_data/test_resident.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks._figures import Figure, by_turns, options, ratios, record
from rebasin_lt.lit.data import CIFAR10
from rebasin_lt.lit.data.epoch_batches import EpochBatches
from rebasin_lt.lit.data.loader import Normalisation
from rebasin_lt.lit.data.resident import ResidentImages


class PILImages(Dataset):
    """Pixels of shape (n, C, H, W), uint8, and labels as torchvision's datasets give them: image by image, from PIL."""

    def __init__(self, pixels: Tensor, labels: Tensor, padding: int = 4, flip: bool = True) -> None:
        self.arrays = pixels.permute(0, 2, 3, 1).numpy()
        self.labels = labels.tolist()
        steps = [
            transforms.RandomHorizontalFlip(0.5 if flip else 0.0),
            transforms.RandomCrop(pixels.shape[2], padding=padding),
            transforms.ToTensor(),
        ]
        self.transform = transforms.Compose([*steps, transforms.Normalize(CIFAR10.mean, CIFAR10.std)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def pil_loader(
    pixels: Tensor, labels: Tensor, batch: int, padding: int = 4, flip: bool = True, workers: int = 0
) -> DataLoader:
    """The paper's loader: shuffled, what does not fill a batch left out.

    Its processes are forked, as everywhere on Linux, in a process that was not, too.
    """
    images, context = PILImages(pixels, labels, padding, flip), "fork" if workers else None
    return DataLoader(images, batch, shuffle=True, drop_last=True, num_workers=workers, multiprocessing_context=context)


def resident_loader(
    pixels: Tensor, labels: Tensor, batch: int, padding: int = 4, device: str = "cpu"
) -> Iterable[tuple[Tensor, Tensor]]:
    """Ours, over the same images."""
    images = ResidentImages(pixels, labels, Normalisation(CIFAR10.mean, CIFAR10.std), padding, flip=True)
    sampler = EpochBatches(torch.arange(len(images)), batch, shuffle=True, drop_last=True)
    return images.loader(sampler, True, torch.device(device))


def synthetic(count: int, size: int = 32) -> tuple[Tensor, Tensor]:
    """Images of noise, shape (count, 3, size, size), uint8, and labels from 0 to 9."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return pixels, torch.randint(0, 10, (count,), generator=generator)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the ratio, write it."""
    parser = options("data_path", __doc__)
    parser.add_argument("--images", type=int, default=6400, help="images in an epoch")
    parser.add_argument("--batch", type=int, default=128, help="images in a batch")
    parser.add_argument("--repeats", type=int, default=7, help="epochs of either side")
    parser.add_argument("--device", default="cpu", help="where our images lie: cpu or cuda")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pixels, labels = synthetic(given.images)
    ours = resident_loader(pixels, labels, given.batch, device=given.device)
    theirs = pil_loader(pixels, labels, given.batch)
    _drain(ours)
    seconds = by_turns({"ours": lambda: _drain(ours), "theirs": lambda: _drain(theirs)}, given.repeats, given.device)
    figure = Figure(
        "training images prepared per second and core",
        "one gather out of memory",
        "PIL and torchvision",
        ratios(seconds["theirs"], seconds["ours"]),
        "≥ 6",
    )
    record("data_path", given, [figure], images=given.images, batch=given.batch, repeats=given.repeats)


def _drain(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


if __name__ == "__main__":
    main()
