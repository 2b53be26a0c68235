"""Class folders that are decoded once in a process, however many stages of a study read them."""

from __future__ import annotations

from functools import cache

from rebasin_lt.lit.data.base import Split
from rebasin_lt.lit.data.image_folder import ImageFolder
from rebasin_lt.lit.data.loader import Images


class Decoded(ImageFolder):
    """`ImageFolder`, in memory, as `benchmarks.gpu.decoded:Decoded`."""

    def open_part(self, part: Split) -> Images:
        return _decoded(self.root, part, self.image_size)


@cache
def _decoded(root: str, part: Split, size: int) -> Images:
    return ImageFolder(root, image_size=size, resident=True).open_part(part)
