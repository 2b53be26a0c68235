"""`SVHN`: house numbers, 73,257 and 26,032 colour images of 32×32 pixels."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.data.base import Split
from rebasin_lt.lit.data.torchvision_data import TorchvisionData

_COMPRESSED = 15  # miCOMPRESSED in the format's documentation
_MOST = 2**28  # bytes of a file when inflated; the larger one has 225 million


class SVHN(TorchvisionData):
    """SVHN, its cropped digits, in `root/train_32x32.mat` and `root/test_32x32.mat`; the extra images are not used.

    Augmented, as in the paper's code, by a random crop after padding 4 pixels, without a flip. Normalised, as there,
    with its own mean (.4377, .4438, .4728) and standard deviation (.1980, .2010, .1970).

        >>> data = rb.SVHN(root="data", batch_size=64)
        >>> data.num_classes, data.input_shape
        (10, (3, 32, 32))
    """

    name = "svhn"
    published_size = 73_257
    num_classes = 10
    input_shape = (3, 32, 32)
    mean, std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
    padding = 4
    torchvision_name, torchvision_parts = "SVHN", ({"split": "train"}, {"split": "test"})

    def _read(self, part: Split) -> tuple[Tensor, Tensor]:
        from scipy.io import loadmat

        path = Path(self.root) / f"{part}_32x32.mat"
        if not path.is_file():
            raise self._missing(path.name, path.parent)
        try:
            content = loadmat(_inflated(path), variable_names=["X", "y"])
            pixels, labels = torch.from_numpy(content["X"]), torch.from_numpy(content["y"])
        except Exception as error:  # a damaged file can bring its reader to raise anything
            raise BrokenFileError(f"{path} is not a readable MATLAB file of images X and labels y: {error}") from error
        if pixels.shape[:3] != (32, 32, 3) or pixels.shape[3:] != (labels.numel(),) or pixels.dtype != torch.uint8:
            raise BrokenFileError(
                f"{path} has X of shape {tuple(pixels.shape)}, expected (32, 32, 3, {labels.numel()})"
            )
        if not ((labels >= 1) & (labels <= 10)).all():
            raise BrokenFileError(f"{path} has labels from {labels.min()} to {labels.max()}, expected 1 to 10")
        return pixels.permute(3, 2, 0, 1).contiguous(), labels.flatten().long() % 10  # digit 0 has label 10


def _inflated(path: Path) -> io.BytesIO:
    """A MATLAB 5 file without compression, at most `_MOST` bytes of it: scipy believes every size it reads.

    Raises ValueError for another format and for more bytes.
    """
    data, most = path.read_bytes(), _MOST
    if data[124:128] != b"\x00\x01IM":
        raise ValueError("its header is not that of a little-endian MATLAB 5 file")
    parts, at = [data[:128]], 128
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        body = data[at : at + 8 + size]
        if kind == _COMPRESSED:
            inflate = zlib.decompressobj()
            body = inflate.decompress(body[8:], max(1, most))
            if inflate.unconsumed_tail:
                raise ValueError(f"it inflates to more than {_MOST} bytes")
        most -= len(body)
        parts.append(body)
        at += 8 + size
    return io.BytesIO(b"".join(parts))
