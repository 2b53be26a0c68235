"""What a report must know of a study's settings: which numbers of the paper may stand beside its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rebasin_lt.report.published import Published, published

_CLASSES = {"cifar100": 100, "imagenet": 1000}
_MATCHED_AT = re.compile(r"permuted_(\d+)ep")


@dataclass(frozen=True)
class Setting:
    """The dataset and network of a study, its rewind moments in their order, and its number of classes.

    `as_published` is the method that does what the paper did: `permuted_paper` where a study has it, else `permuted`.
    """

    dataset: str
    arch: str
    rewinds: tuple[str, ...]
    num_classes: int
    as_published: str = "permuted"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Setting:
        """From a study's config; what is not there is unknown, and has no published number."""
        recipe = settings.get("recipe", {})
        data, network = recipe.get("data", {}), recipe.get("network", {})
        dataset = "" if data.get("image_size") else data.get("name", "")  # images of another size: another dataset
        classes = network.get("num_classes", _CLASSES.get(data.get("name", ""), 10))
        own = "permuted_paper" if "permuted_paper" in settings.get("methods", ()) else "permuted"
        return cls(dataset, network.get("arch", ""), tuple(recipe.get("rewinds", ())), int(classes), own)

    def published(
        self, width: float, sparsity: float, rewind: str, method: str, metric: str = "top1"
    ) -> Published | None:
        """The paper's number for a cell of this study; `permuted_5ep` is matched to B at epoch 5 (Table 15)."""
        early = _MATCHED_AT.fullmatch(method)
        if method == "permuted" != self.as_published:
            return None
        name = "permuted" if early or method == self.as_published else method
        at = int(early[1]) if early else None
        return published(self.dataset, self.arch, width, name, sparsity, rewind=rewind, metric=metric, matched_at=at)

    def published_dense(self, width: float) -> Published | None:
        """The paper's dense accuracy, of the line in its figures, or else of its Table 1."""
        return published(self.dataset, self.arch, width, "dense", 0)

    def published_diversity(self, width: float, sparsity: float, setting: str, metric: str) -> Published | None:
        """A number of the paper's Table 1; the rewind moment is not stated there."""
        at = 0 if setting == "dense" else sparsity
        return published(self.dataset, self.arch, width, setting, at, metric=metric, source="Table 1")
