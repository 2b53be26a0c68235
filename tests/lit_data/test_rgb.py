"""Pixels of every mode that Pillow has: right against numpy, or refused by the file's name."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.lit.data.folder import FolderImages
from rebasin_lt.lit.data.image_folder import ImageFolder
from rebasin_lt.lit.data.loader import Normalisation

LOTS = np.random.default_rng(0)
BYTES, WORDS = LOTS.integers(0, 256, (9, 7, 4), np.uint8), LOTS.integers(0, 65536, (9, 7), np.uint16)
GREY, PALETTE = BYTES[..., 0], LOTS.integers(0, 256, 768, np.uint8)


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(grey)[..., None], 3, -1)


def scaled(values: np.ndarray, top: int = 65535) -> np.ndarray:
    return three(np.floor(values.astype(np.float64) * 255 / top + 0.5))


def with_palette(mode: str) -> Image.Image:
    image = Image.fromarray(GREY, "L").convert("P") if mode == "P" else Image.fromarray(BYTES[..., :2], "LA")
    image = image if mode == "P" else image.convert("PA")
    image.putpalette(PALETTE.tobytes())
    return image


def of_cmyk() -> np.ndarray:
    c = BYTES.astype(np.float64) / 255
    return 255 * (1 - c[..., :3]) * (1 - c[..., 3:])


def of_ycbcr() -> np.ndarray:  # ITU-T T.871, equation 3
    y, cb, cr = np.moveaxis(BYTES[..., :3].astype(np.float64), -1, 0)
    colours = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)]
    return np.stack(colours, -1).clip(0, 255)


BITS = GREY > 127
ORACLES = {
    "1.png": (lambda: Image.fromarray(BITS), three(BITS * 255), 0),
    "1.tiff": (lambda: Image.fromarray(BITS), three(BITS * 255), 0),
    "L.png": (lambda: Image.fromarray(GREY), three(GREY), 0),
    "L.tiff": (lambda: Image.fromarray(GREY), three(GREY), 0),
    "LA.png": (lambda: Image.fromarray(BYTES[..., :2], "LA"), three(GREY), 0),
    "LA.tiff": (lambda: Image.fromarray(BYTES[..., :2], "LA"), three(GREY), 0),
    "P.png": (lambda: with_palette("P"), PALETTE.reshape(256, 3)[GREY], 0),
    "PA.tiff": (lambda: with_palette("PA"), PALETTE.reshape(256, 3)[GREY], 0),
    "RGB.png": (lambda: Image.fromarray(BYTES[..., :3]), BYTES[..., :3], 0),
    "RGB.bmp": (lambda: Image.fromarray(BYTES[..., :3]), BYTES[..., :3], 0),
    "RGBA.png": (lambda: Image.fromarray(BYTES), BYTES[..., :3], 0),
    "CMYK.tiff": (lambda: Image.fromarray(BYTES, "CMYK"), of_cmyk(), 1),
    "YCbCr.tiff": (lambda: Image.fromarray(BYTES[..., :3], "YCbCr"), of_ycbcr(), 1),
    "I;16.png": (lambda: Image.fromarray(WORDS), scaled(WORDS), 0),
    "I;16.tiff": (lambda: Image.fromarray(WORDS), scaled(WORDS), 0),
    "I;16B.tiff": (lambda: Image.fromarray(WORDS.astype(">u2")), scaled(WORDS), 0),
    "I;16.pgm": (lambda: Image.fromarray(WORDS), scaled(WORDS), 0),
}


def decoded(path) -> np.ndarray:
    (path.parent.parent / "other").mkdir(exist_ok=True)
    Image.new("L", (1, 1)).save(path.parent.parent / "other" / "0.png")
    images = FolderImages(path.parent.parent, torch.nn.Identity(), torch.nn.Identity(), Normalisation((0,), (1,)), 0)
    (index,) = (k for k, (name, _) in enumerate(images.files) if name == str(path))
    return images.decode(index).permute(1, 2, 0).numpy()


@pytest.fixture
def place(tmp_path):
    (tmp_path / "train" / "class").mkdir(parents=True)
    return tmp_path / "train" / "class"


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("name", ORACLES)
def test_pixels_of_a_mode_are_those_of_numpy(place, name) -> None:
    make, expected, within = ORACLES[name]
    make().save(place / name)
    found = decoded(place / name)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found - expected.round()).max() <= within


def tiff(values: bytes, bits: int, photometric: int, kind: int = 1, width: int = 7, height: int = 9) -> bytes:
    """A little-endian TIFF of one channel, as its specification has it."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(values)), (339, 3, kind)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(values)) + values + directory + bytes(4)


def test_white_may_be_zero_and_bits_may_be_twelve(place) -> None:
    (place / "0.tiff").write_bytes(tiff(WORDS.tobytes(), 16, photometric=0))
    assert np.array_equal(decoded(place / "0.tiff"), scaled(65535 - WORDS.astype(np.int64)))
    twelve = WORDS[:, :6] >> 4
    rows = b"".join(b"".join(f"{value:012b}".encode() for value in row) for row in twelve.tolist())
    packed = bytes(int(rows[k : k + 8], 2) for k in range(0, len(rows), 8))
    (place / "1.tiff").write_bytes(tiff(packed, 12, photometric=1, width=6))
    assert np.array_equal(decoded(place / "1.tiff"), scaled(twelve, 4095))


def test_opacity_of_a_palette_is_left_out(place) -> None:
    with_palette("P").save(place / "0.png", transparency=bytes(range(256)))
    assert np.array_equal(decoded(place / "0.png"), PALETTE.reshape(256, 3)[GREY])


REFUSED = {
    "F.tiff": lambda: Image.fromarray(GREY.astype(np.float32) / 255),
    "I.tiff": lambda: Image.fromarray(WORDS.astype(np.int32)),
    "F.ppm": lambda: Image.fromarray(GREY.astype(np.float32) / 255),
    "LAB.tiff": lambda: Image.new("LAB", (9, 7)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pixels_without_a_known_range_are_refused_by_name(place, name) -> None:
    REFUSED[name]().save(place / name)
    with pytest.raises(
        InputError, match=rf"class/{name} has pixels of mode {name.split('.')[0]}, of which black and wh"
    ):
        decoded(place / name)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_on_such_a_file_ends_in_one_line(folders, num_workers) -> None:
    root = folders({"train": 2, "test": 1})
    REFUSED["F.tiff"]().save(root / "train" / "class_0001" / "F.tiff")
    data = ImageFolder(root=str(root), num_workers=num_workers, resident=False)
    with pytest.raises(
        InputError, match=r"^\S*class_0001/F.tiff has pixels of mode F, .* bits per channel$"
    ) as refused:
        list(data.sweep("train"))
    assert not isinstance(refused.value, BrokenFileError)
