"""`Digits`: 1,797 real images that come with scikit-learn."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.lit.data.base import ImageData, Split
from rebasin_lt.lit.data.epoch_batches import SPLIT, seeded
from rebasin_lt.lit.data.loader import Normalisation
from rebasin_lt.lit.data.resident import ResidentImages

_NUM_TEST, _SPLIT_SEED = 500, 1


class Digits(ImageData):
    """Handwritten digits, 8×8 pixels in 17 shades: 1,000 to train, 297 to validate, 500 to test; no augmentation.

    The set has no test images of its own: which are, is drawn by a fixed seed. `root` is not used. Normalised with
    the mean (.305) and standard deviation (.376) of all pixels. Raises InputError without scikit-learn.

        >>> data = rb.Digits(batch_size=50)
        >>> data.setup("fit")
        >>> images, labels = next(iter(data.train_dataloader()))
        >>> images.shape, labels.shape
        (torch.Size([50, 1, 8, 8]), torch.Size([50]))
    """

    name = "digits"
    num_classes = 10
    input_shape = (1, 8, 8)
    mean, std = (0.3053,), (0.3760,)
    default_val_size = 297
    published_size = 1297

    def open_part(self, part: Split) -> ResidentImages:
        pixels, targets = _read()
        order = torch.randperm(len(targets), generator=seeded(SPLIT, _SPLIT_SEED))
        chosen = order[:_NUM_TEST] if part == "test" else order[_NUM_TEST:]
        return ResidentImages(pixels[chosen, None], targets[chosen], self.normalisation())

    def normalisation(self) -> Normalisation:
        return Normalisation(self.mean, self.std, white=16)


@cache  # an experiment opens the data once per stage, and scikit-learn parses text
def _read() -> tuple[Tensor, Tensor]:
    """Pixels, uint8 of shape (images, 8, 8), and classes."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError("data digits needs scikit-learn: pip install rebasin-lt[demo]") from error
    digits = load_digits()
    return torch.from_numpy(digits.images).to(torch.uint8), torch.from_numpy(digits.target).long()
