"""`FashionMNIST`: 60,000 and 10,000 grey images of clothes, from their original IDX files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.data.base import Split
from rebasin_lt.lit.data.torchvision_data import TorchvisionData, call_for_parts

_PREFIX: dict[Split, str] = {"train": "train", "test": "t10k"}


class FashionMNIST(TorchvisionData):
    """Clothes in 10 classes, 28×28 pixels, grey.

    Reads the four `*-ubyte` files, gzipped or not, in `root/FashionMNIST/raw`, torchvision's place, or in `root`
    itself, as Debian's package dataset-fashion-mnist has them (root: /usr/share/datasets/fashion-mnist). Augmented by
    a random crop after padding 2 pixels and a flip (the paper has no such dataset); normalised with its own
    statistics, mean .2860 and standard deviation .3530.
    """

    name = "fashion_mnist"
    num_classes = 10
    input_shape = (1, 28, 28)
    mean, std = (0.2860,), (0.3530,)
    padding, flip = 2, True

    def _download(self) -> None:
        from torchvision.datasets import FashionMNIST as Torchvision

        call_for_parts(Torchvision, self.root)

    def _read(self, part: Split) -> tuple[Tensor, Tensor]:
        pixels = read_idx(self._find(f"{_PREFIX[part]}-images-idx3-ubyte"), dims=3)
        labels = read_idx(self._find(f"{_PREFIX[part]}-labels-idx1-ubyte"), dims=1)
        if len(pixels) != len(labels):
            raise BrokenFileError(f"{self.root} has {len(pixels)} {part} images and {len(labels)} labels")
        return pixels[:, None], labels.long()

    def _find(self, stem: str) -> Path:
        places = Path(self.root) / "FashionMNIST" / "raw", Path(self.root)
        for path in (place / (stem + suffix) for place in places for suffix in ("", ".gz")):
            if path.is_file():
                return path
        raise self._missing(f"{stem}[.gz]", *places)


def read_idx(path: Path, dims: int) -> Tensor:
    """The uint8 array of an IDX file with that many dimensions. Raises BrokenFileError for any other content."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BrokenFileError(f"{path} cannot be read: {error}") from error
    head = 4 * (1 + dims)
    shape = np.frombuffer(data[4:head], ">u4").astype(int) if len(data) >= head else np.empty(0, int)
    if data[:4] != bytes((0, 0, 8, dims)) or len(data) != head + shape.prod():
        raise BrokenFileError(f"{path} is not a whole IDX file of {dims} dimensions: fetch it again")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=head).reshape(tuple(shape)).copy())
