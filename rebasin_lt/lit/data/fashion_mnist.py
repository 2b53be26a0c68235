"""`FashionMNIST`: 60,000 and 10,000 grey images of clothes, from their original IDX files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.data.base import Split
from rebasin_lt.lit.data.torchvision_data import TorchvisionData

_MOST = 10**6  # items in a file; the original has 60,000
_PREFIX: dict[Split, str] = {"train": "train", "test": "t10k"}


class FashionMNIST(TorchvisionData):
    """Clothes in 10 classes, 28×28 pixels, grey.

    Reads the four `*-ubyte` files, gzipped or not, in `root/FashionMNIST/raw`, torchvision's place, or in `root`
    itself, as Debian's package dataset-fashion-mnist has them (root: /usr/share/datasets/fashion-mnist). Augmented by
    a random crop after padding 2 pixels and a flip (the paper has no such dataset); normalised with its own
    statistics, mean .2860 and standard deviation .3530.

        >>> data = rb.FashionMNIST(root="data", batch_size=64)
        >>> data.num_classes, data.input_shape
        (10, (1, 28, 28))
    """

    name = "fashion_mnist"
    published_size = 60_000
    num_classes = 10
    input_shape = (1, 28, 28)
    mean, std = (0.2860,), (0.3530,)
    padding, flip = 2, True
    torchvision_name = "FashionMNIST"

    def _read(self, part: Split) -> tuple[Tensor, Tensor]:
        pixels = read_idx(self._find(f"{_PREFIX[part]}-images-idx3-ubyte"), (28, 28))
        labels = read_idx(self._find(f"{_PREFIX[part]}-labels-idx1-ubyte"))
        if len(labels) and labels.max() >= self.num_classes:
            raise BrokenFileError(f"{self.root} has a {part} label {labels.max()}, expected 0 to 9")
        if len(pixels) != len(labels):
            raise BrokenFileError(f"{self.root} has {len(pixels)} {part} images and {len(labels)} labels")
        return pixels[:, None], labels.long()

    def _find(self, stem: str) -> Path:
        places = Path(self.root) / "FashionMNIST" / "raw", Path(self.root)
        for path in (place / (stem + suffix) for place in places for suffix in ("", ".gz")):
            if path.is_file():
                return path
        raise self._missing(f"{stem}[.gz]", *places)


def read_idx(path: Path, item: tuple[int, ...] = ()) -> Tensor:
    """The uint8 array in an IDX file, gzipped or not, shape (n, *item).

    Reads as much as its header announces and a byte more, so that neither a header nor a bomb takes memory. Raises
    BrokenFileError for any other content, and for more than a million items.
    """
    dims = 1 + len(item)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 * (1 + dims))
            shape = tuple(np.frombuffer(head[4:], ">u4").tolist()) if len(head) == 4 * (1 + dims) else (0,)
            whole = head[:4] == bytes((0, 0, 8, dims)) and shape[1:] == item and 0 < shape[0] <= _MOST
            data = file.read(math.prod(shape) + 1) if whole else b""
    except (OSError, EOFError, zlib.error) as error:
        raise BrokenFileError(f"{path} cannot be read: {error}") from error
    if not whole or len(data) != math.prod(shape):
        raise BrokenFileError(f"{path} is not a whole IDX file of {dims} dimensions: fetch it again")
    return torch.from_numpy(np.frombuffer(data, np.uint8).reshape(shape).copy())
