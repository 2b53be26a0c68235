"""Pixels of image files as 8-bit RGB, whatever they are stored as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rebasin_lt.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_CONVERTED = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
"""Modes that Pillow brings to RGB by their range; opacity is left out."""

_OF_16_BITS = {"I;16", "I;16B", "I;16L", "I;16N"}
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF files


def rgb(image: Image) -> Tensor:  # shape: (3, H, W), uint8
    """The pixels of an open file. Grey ones of up to 16 bits are scaled by their range, 65535 to 255.

    Pillow itself cuts them at 255. Of colours with 16 bits per channel it takes the upper 8. Raises InputError for
    pixels whose range no mode says, such as floats.
    """
    from torchvision.transforms.v2.functional import pil_to_tensor

    if image.mode in _CONVERTED:
        if "transparency" in image.info:
            image = image.convert("RGBA")
        pixels: Tensor = pil_to_tensor(image.convert("RGB"))
        return pixels
    if image.mode in _OF_16_BITS or (image.mode == "I" and image.format in {"PNG", "PPM"}):
        return _scaled(image).expand(3, -1, -1).contiguous()
    raise InputError(
        f"{getattr(image, 'filename', 'image')} has pixels of mode {image.mode}, of which black and white are not "
        "known: save it with 8 or 16 bits per channel"
    )


def _scaled(image: Image) -> Tensor:  # shape: (1, H, W), uint8
    import numpy as np

    tags: Any = getattr(image, "tag_v2", {})  # of TIFF alone, which has 12 bits too, and white as 0
    top: int = 2 ** tags.get(_BITS, (16,))[0] - 1
    grey = torch.from_numpy(np.asarray(image).astype(np.int32))
    grey = top - grey if tags.get(_PHOTOMETRIC) == 0 else grey
    return ((grey * 255 + top // 2) // top).to(torch.uint8)[None]
