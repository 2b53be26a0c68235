"""What a report must know of a study's settings: what its methods are, and which numbers of the paper stand beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rebasin_lt.judging.losses import BY_CROSS_ENTROPY, CROSS_ENTROPY, Judged, judged_by
from rebasin_lt.moment import Moment
from rebasin_lt.report.kit.methods import Methods
from rebasin_lt.report.study.published import Published, published

_CLASSES = {"cifar100": 100, "imagenet": 1000}
_FINAL = "final"


@dataclass(frozen=True)
class Setting:
    """The dataset and network of a study, its rewind moments in their order, its number of classes and its methods.

    `as_published` are the matchers that do what the paper did, each with the moment of B at which it matches, and
    `members` the matcher of the permuted members of its ensembles. Both go by settings: a name tells nothing. Lines are
    `judged` by the loss of its barriers.
    """

    dataset: str
    arch: str
    rewinds: tuple[str, ...]
    num_classes: int
    methods: Methods = field(default_factory=Methods)
    as_published: Mapping[str, str] = field(default_factory=dict)
    members: str = "permuted"
    judged: Judged = BY_CROSS_ENTROPY

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Setting:
        """From a study's config; what is not there is unknown, and has no published number.

        Raises InputError for a matcher that cannot be.
        """
        recipe = settings.get("recipe", {})
        data, network = recipe.get("data", {}), recipe.get("network", {})
        dataset = "" if data.get("image_size") else data.get("name", "")  # images of another size: another dataset
        classes = network.get("num_classes", _CLASSES.get(data.get("name", ""), 10))
        methods = Methods(dict(settings["matchers"])) if "matchers" in settings else Methods()
        arch = network.get("arch", "")
        return cls(
            dataset,
            arch,
            tuple(recipe.get("rewinds", ())),
            int(classes),
            methods,
            _as_published(methods.matchers, arch),
            (settings.get("diversity") or {}).get("matcher", "permuted"),
            judged_by(str((settings.get("barrier") or {}).get("loss", recipe.get("loss", CROSS_ENTROPY)))),
        )

    def published(
        self, width: float, sparsity: float, rewind: str, method: str, metric: str = "top1"
    ) -> Published | None:
        """The paper's number for a cell of this study; a matcher at a moment of B has that of Table 15."""
        if not self.methods.is_matched(method):
            return published(self.dataset, self.arch, width, method, sparsity, rewind=rewind, metric=metric)
        if method not in self.as_published:
            return None
        at = self.as_published[method]
        epoch = None if at == _FINAL else Moment.parse(at)
        if epoch is not None and epoch.unit != "ep":
            return None
        count = None if epoch is None else epoch.count
        return published(
            self.dataset, self.arch, width, "permuted", sparsity, rewind=rewind, metric=metric, matched_at=count
        )

    def published_dense(self, width: float) -> Published | None:
        """The paper's dense accuracy, of the line in its figures, or else of its Table 1."""
        return published(self.dataset, self.arch, width, "dense", 0)

    def published_diversity(self, width: float, sparsity: float, setting: str, metric: str) -> Published | None:
        """A number of the paper's Table 1; the rewind moment is not stated there."""
        if setting == "permuted" and self.as_published.get(self.members) != _FINAL:
            return None
        at = 0 if setting == "dense" else sparsity
        return published(self.dataset, self.arch, width, setting, at, metric=metric, source="Table 1")


def _as_published(matchers: Mapping[str, Mapping[str, Any]], arch: str) -> dict[str, str]:
    """The moment of B, by the name of each matcher that does what the paper did for this network."""
    if not any(matchers.values()):
        return {}  # no settings: this package's own way, which needs no look
    from rebasin_lt.experiment.matcher import matcher_of

    return {
        name: settings.get("at", _FINAL)
        for name, settings in matchers.items()
        if matcher_of(settings).is_published(arch)
    }
