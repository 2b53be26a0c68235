"""Tiny datasets in the formats that the real ones have on disk."""

from __future__ import annotations

import gzip
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

sys.path.insert(0, str(Path(__file__).parent))  # for `own_data`


def idx(array: np.ndarray) -> bytes:
    """An IDX file of uint8."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """60 and 20 images in Fashion-MNIST's files, gzipped; image i of train holds the value i, its label is i % 10."""
    for prefix, count in (("train", 60), ("t10k", 20)):
        values = np.arange(count)
        pixels = np.broadcast_to(values[:, None, None], (count, 28, 28))
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(values % 10)))
    return tmp_path


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    """CIFAR-10's binary files, 10 random images in each of the six; label of the n-th: n % 10."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for file in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        records = generator.integers(0, 256, (10, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(10)
        records.tofile(folder / f"{file}.bin")
    return tmp_path


@pytest.fixture
def cifar100(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for file, count in (("train", 40), ("test", 10)):
        records = generator.integers(0, 256, (count, 3074), dtype=np.uint8)
        records[:, 0], records[:, 1] = 7, np.arange(count) + 50
        records.tofile(folder / f"{file}.bin")
    return tmp_path


@pytest.fixture
def svhn(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for file, count in (("train", 30), ("test", 20)):
        pixels = generator.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        savemat(
            tmp_path / f"{file}_32x32.mat", {"X": pixels, "y": (np.arange(count)[:, None] % 10 + 1).astype(np.uint8)}
        )
    return tmp_path


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., Path]:
    """Writes PNG files below class folders: `folders({"train": 8, "test": 4}, classes=3, size=(40, 36))`."""

    def write(parts: dict[str, int], classes: int = 3, size: tuple[int, int] = (32, 32)) -> Path:
        generator = np.random.default_rng(0)
        for part, count in parts.items():
            for label in range(classes):
                folder = tmp_path / part / f"class_{label:04}"
                folder.mkdir(parents=True)
                for number in range(count):
                    pixels = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number}.png")
        return tmp_path

    return write
