"""`CIFAR10` and `CIFAR100`: 50,000 and 10,000 colour images of 32×32 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.data.base import Split
from rebasin_lt.lit.data.torchvision_data import TorchvisionData

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


class _CIFAR(TorchvisionData):
    """Reads the binary version of the files, or else torchvision's, the Python version.

    The latter are pickles. torchvision compares their MD5 with the published ones before it opens them, so nothing
    but the original files is ever unpickled.
    """

    input_shape = _SHAPE
    padding, flip = 4, True
    published_size = 50_000
    binary_folder: ClassVar[str]
    binary_files: ClassVar[dict[Split, tuple[str, ...]]]
    label_bytes: ClassVar[int]  # before the pixels of an image; the last one is the class

    def _read(self, part: Split) -> tuple[Tensor, Tensor]:
        binary = Path(self.root) / self.binary_folder
        if binary.is_dir():
            return self._read_binary([binary / file for file in self.binary_files[part]])
        python = Path(self.root) / self._torchvision().base_folder
        if not python.is_dir():
            raise self._missing("the folder", binary, python)
        try:
            data = self._torchvision()(self.root, train=part == "train")
        except RuntimeError as error:  # its MD5 comparison
            raise BrokenFileError(f"{python} is incomplete or not the original files: fetch it again") from error
        pixels = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return pixels, torch.tensor(data.targets)

    def _read_binary(self, paths: list[Path]) -> tuple[Tensor, Tensor]:
        for path in paths:
            if not path.is_file():
                raise self._missing(path.name, path.parent)
        parts = [_records(path, self.label_bytes + _PIXELS, self.num_classes, self.label_bytes - 1) for path in paths]
        records = torch.from_numpy(np.concatenate(parts))
        return records[:, self.label_bytes :].reshape(-1, *_SHAPE), records[:, self.label_bytes - 1].long()


class CIFAR10(_CIFAR):
    """CIFAR-10 in `root/cifar-10-batches-bin` or `root/cifar-10-batches-py`.

    Augmented as in the paper: a random crop after padding 4 pixels, and a flip. Normalised as in the paper's code,
    with ImageNet's mean (.485, .456, .406) and standard deviation (.229, .224, .225), to be comparable with it; the
    images' own are (.4914, .4822, .4465) and (.2470, .2435, .2616).

        >>> data = rb.CIFAR10(root="data", batch_size=64)
        >>> data.num_classes, data.input_shape
        (10, (3, 32, 32))
    """

    name = "cifar10"
    num_classes = 10
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    torchvision_name = "CIFAR10"
    binary_folder = "cifar-10-batches-bin"
    binary_files: ClassVar[dict[Split, tuple[str, ...]]] = {
        "train": tuple(f"data_batch_{n}.bin" for n in range(1, 6)),
        "test": ("test_batch.bin",),
    }
    label_bytes = 1


class CIFAR100(_CIFAR):
    """CIFAR-100, its 100 fine classes, in `root/cifar-100-binary` or `root/cifar-100-python`.

    Augmented as in the paper: a random crop after padding 4 pixels, and a flip. Normalised, as there, with its own
    mean (.5071, .4865, .4409) and standard deviation (.2673, .2564, .2762).

        >>> data = rb.CIFAR100(root="data", batch_size=64)
        >>> data.num_classes, data.input_shape
        (100, (3, 32, 32))
    """

    name = "cifar100"
    num_classes = 100
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    torchvision_name = "CIFAR100"
    binary_folder = "cifar-100-binary"
    binary_files: ClassVar[dict[Split, tuple[str, ...]]] = {"train": ("train.bin",), "test": ("test.bin",)}
    label_bytes = 2


def _records(path: Path, size: int, num_classes: int, label_at: int) -> np.ndarray:
    """The file's records, shape (n, size), uint8. Raises BrokenFileError unless it holds whole ones of this dataset."""
    data = np.fromfile(path, np.uint8)
    if not len(data) or len(data) % size or data[label_at::size].max() >= num_classes:
        raise BrokenFileError(f"{path} is not a whole file of {size}-byte records: fetch it again")
    return data.reshape(-1, size)
