"""`SVHN`: house numbers, 73,257 and 26,032 colour images of 32×32 pixels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.data.base import Split
from rebasin_lt.lit.data.torchvision_data import TorchvisionData


class SVHN(TorchvisionData):
    """SVHN, its cropped digits, in `root/train_32x32.mat` and `root/test_32x32.mat`; the extra images are not used.

    Augmented, as in the paper's code, by a random crop after padding 4 pixels, without a flip. Normalised, as there,
    with its own mean (.4377, .4438, .4728) and standard deviation (.1980, .2010, .1970).
    """

    name = "svhn"
    num_classes = 10
    input_shape = (3, 32, 32)
    mean, std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
    padding = 4

    def _download(self) -> None:
        from torchvision.datasets import SVHN as Torchvision

        for split in ("train", "test"):
            Torchvision(self.root, split=split, download=True)

    def _read(self, part: Split) -> tuple[Tensor, Tensor]:
        from scipy.io import loadmat

        path = Path(self.root) / f"{part}_32x32.mat"
        if not path.is_file():
            raise self._missing(path.name, path.parent)
        try:
            content = loadmat(path, variable_names=["X", "y"])
            pixels, labels = torch.from_numpy(content["X"]), torch.from_numpy(content["y"])
        except (ValueError, TypeError, KeyError, OSError, NotImplementedError) as error:
            raise BrokenFileError(f"{path} is not a readable MATLAB file of images X and labels y: {error}") from error
        if pixels.shape[:3] != (32, 32, 3) or pixels.shape[3] != labels.numel() or pixels.dtype != torch.uint8:
            raise BrokenFileError(
                f"{path} has X of shape {tuple(pixels.shape)}, expected (32, 32, 3, {labels.numel()})"
            )
        return pixels.permute(3, 2, 0, 1).contiguous(), labels.flatten().long() % 10  # digit 0 has label 10
