"""Datasets that are bad in one way each, under `data/NAME`."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

RANDOM = np.random.default_rng(0)


def idx(array: np.ndarray, *sizes: int) -> bytes:
    """An IDX file of uint8 whose header announces other `sizes` if they are given."""
    sizes = sizes or array.shape
    return struct.pack(f">BBBB{len(sizes)}I", 0, 0, 8, len(sizes), *sizes) + array.astype(np.uint8).tobytes()


def write() -> None:
    _fashion()
    _cifar()
    _svhn()
    _images()


def _fashion() -> None:
    images, labels = np.zeros((20, 28, 28)), np.arange(20) % 10
    good = {"images-idx3-ubyte.gz": gzip.compress(idx(images)), "labels-idx1-ubyte.gz": gzip.compress(idx(labels))}
    bad = {
        "cut": {"images-idx3-ubyte.gz": good["images-idx3-ubyte.gz"][:30]},
        "empty": {"images-idx3-ubyte.gz": b""},
        "text": {"images-idx3-ubyte.gz": b"clothes"},
        "flip": {"images-idx3-ubyte.gz": _flip(good["images-idx3-ubyte.gz"], 25)},
        "bomb": {"images-idx3-ubyte.gz": gzip.compress(idx(images) + bytes(2**24))},
        "huge": {"images-idx3-ubyte.gz": gzip.compress(idx(images, 2**31, 28, 28))},
        "size": {"images-idx3-ubyte.gz": gzip.compress(idx(np.zeros((20, 8, 8))))},
        "label": {"labels-idx1-ubyte.gz": gzip.compress(idx(labels + 7))},
        "count": {"labels-idx1-ubyte.gz": gzip.compress(idx(labels[:5]))},
    }
    for name, change in bad.items():
        folder = Path(f"data/fashion_{name}")
        folder.mkdir(parents=True)
        for file, content in {**good, **change}.items():
            (folder / f"train-{file}").write_bytes(content)
            (folder / f"t10k-{file}").write_bytes(good[file])


def _cifar() -> None:
    good = RANDOM.integers(0, 256, (10, 3073), dtype=np.uint8)
    good[:, 0] = np.arange(10)
    classes = good.copy()
    classes[3, 0] = 200
    for name, content in {"cut": good.tobytes()[:-5], "empty": b"", "class": classes.tobytes()}.items():
        folder = Path(f"data/cifar_{name}/cifar-10-batches-bin")
        folder.mkdir(parents=True)
        for file in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
            (folder / f"{file}.bin").write_bytes(content if file == "data_batch_1" else good.tobytes())
    pickles = Path("data/cifar_pickle/cifar-10-batches-py")
    pickles.mkdir(parents=True)
    for file in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"):
        (pickles / file).write_bytes(b"cos\nmkdir\n(S'executed'\ntR.")


def _svhn() -> None:
    def mat(compress: bool = False, **content: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        savemat(buffer, content, do_compression=compress)
        return buffer.getvalue()

    images = RANDOM.integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
    labels = np.arange(1, 11, dtype=np.uint8)[:, None]
    good = mat(X=images, y=labels)
    bomb = zlib.compress(bytes(2**28 + 1))
    cells = np.array([["a", "b"]], object)
    bad = {
        "cut": good[: len(good) // 2],
        "empty": b"",
        "text": b"house numbers" * 50,
        "flip": _flip(mat(compress=True, X=images, y=labels), 400),
        "bomb": good[:128] + struct.pack("<II", 15, len(bomb)) + bomb,
        "huge": good.replace(struct.pack("<I", images.size), struct.pack("<I", 2**31 - 8)),
        "shape": mat(X=images[:8], y=labels),
        "count": mat(X=images, y=labels[:4]),
        "label": mat(X=images, y=labels + 9),
        "cells": mat(X=cells, y=labels),
        "missing": mat(X=images),
    }
    for name, content in bad.items():
        folder = Path(f"data/svhn_{name}")
        folder.mkdir(parents=True)
        (folder / "train_32x32.mat").write_bytes(content)
        (folder / "test_32x32.mat").write_bytes(good)


def _images() -> None:
    good = _png(Image.fromarray(RANDOM.integers(0, 256, (8, 8, 3), dtype=np.uint8)))
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(executed) (w) file closefile\n%%EOF\n"
    bad = {
        "cut": good[:60],
        "empty": b"",
        "text": b"a photograph",
        "flip": _flip(good, 60),
        "bomb": _announcing(20_000),
        "large": _announcing(10_000),
        "declared": good.replace(struct.pack(">II", 8, 8), struct.pack(">II", 2**31 - 1, 2**31 - 1)),
        "postscript": postscript,
    }
    for name, content in bad.items():
        for part in ("train", "test"):
            folder = Path(f"data/images_{name}/{part}/zero")
            folder.mkdir(parents=True)
            (folder / "1.png").write_bytes(content)
    Path("data/images_none/train/zero").mkdir(parents=True)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _announcing(size: int) -> bytes:
    """A PNG of that many pixels squared, as far as its header says."""
    header = b"IHDR" + struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
        + bytes(4)
        + b"IDAT"
    )


def _flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


_IDX, _MAT = "train-images-idx3-ubyte.gz", "train_32x32.mat is not a readable MATLAB file"
FASHION = [
    ("cut", f"{_IDX} cannot be read"),
    ("empty", f"{_IDX} is not a whole IDX file"),
    ("text", f"{_IDX} cannot be read: Not a gzipped file"),
    ("flip", _IDX),
    ("bomb", f"{_IDX} is not a whole IDX file of 3 dimensions"),
    ("huge", f"{_IDX} is not a whole IDX file of 3 dimensions"),
    ("size", f"{_IDX} is not a whole IDX file of 3 dimensions"),
    ("label", "has a train label 16, expected 0 to 9"),
    ("count", "has 20 train images and 5 labels"),
]
CIFAR = [
    ("cut", "data_batch_1.bin is not a whole file of 3073-byte records"),
    ("empty", "data_batch_1.bin is not a whole file"),
    ("class", "data_batch_1.bin is not a whole file"),
    ("pickle", "is incomplete or not the original files"),
]
SVHN = [
    ("cut", _MAT),
    ("empty", "its header is not that of a little-endian MATLAB 5 file"),
    ("text", "its header is not that of a little-endian MATLAB 5 file"),
    ("flip", _MAT),
    ("bomb", "it inflates to more than 268435456 bytes"),
    ("huge", _MAT),
    ("shape", "has X of shape (8, 32, 3, 10), expected (32, 32, 3, 10)"),
    ("count", "has X of shape (32, 32, 3, 10), expected (32, 32, 3, 4)"),
    ("label", "has labels from 10 to 19, expected 1 to 10"),
    ("cells", _MAT),
    ("missing", _MAT),
]
IMAGES = [
    ("cut", "1.png is not a readable image"),
    ("empty", "1.png is not a readable image"),
    ("text", "1.png is not a readable image"),
    ("flip", "1.png is not a readable image"),
    ("bomb", "1.png is not a readable image: Image size (400000000 pixels) exceeds limit"),
    ("large", "1.png is not a readable image: Image size (100000000 pixels) exceeds limit"),
    ("declared", "1.png is not a readable image"),
    ("postscript", "1.png is not a readable image"),
]
_FIT = "fit --config dense.yaml --trainer.default_root_dir new --trainer.max_epochs 5 --model.arch"
CASES: list[tuple[str, int, str]] = [
    *((f"{_FIT} vgg11 --data FashionMNIST --data.root data/fashion_{name}", 1, text) for name, text in FASHION),
    *((f"{_FIT} resnet20 --data CIFAR10 --data.root data/cifar_{name}", 1, text) for name, text in CIFAR),
    *((f"{_FIT} resnet20 --data SVHN --data.root data/svhn_{name}", 1, text) for name, text in SVHN),
    *(
        (
            f"{_FIT} mlp --model.num_classes 1 --data ImageFolder --data.resident true --data.root data/images_{name}",
            1,
            text,
        )
        for name, text in IMAGES
    ),
    (f"{_FIT} mlp --data ImageFolder --data.root data/images_none", 2, "no image in its class folder"),
]
