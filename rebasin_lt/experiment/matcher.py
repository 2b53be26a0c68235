"""How two networks are matched: a method, and the settings that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from rebasin_lt.batches import Network
from rebasin_lt.errors import InputError
from rebasin_lt.matching.activation import MASK_WEIGHT_MIX, MatchResult, check_settings, match_activations
from rebasin_lt.matching.weight_matching import match_weights
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.symmetry.trace import Symmetry

Method = Literal["activations", "coordinate_descent", "frank_wolfe"]

_MEASURES = {
    "correlation": "mean correlation of matched pairs",
    "covariance": "mean covariance of matched pairs",
    "raw": "mean product of matched pairs",
    "paper": "mean correlation of matched pairs, as published",
    "weights": "cosine of the aligned weights",
}


OF_IMAGES = ("at", "num_images", "batch_size")
"""Settings of a matcher in a study that `Matcher` does not have."""


@dataclass(frozen=True)
class Matcher:
    """What `match_activations` or `match_weights` is asked for; the fields are options of `rebasin-lt permute`.

    Raises InputError, with both values, for one that the method has no use for, and for values that it cannot have.
    """

    method: Method = "activations"
    objective: str = "correlation"
    stream: str = "sum"
    weight_mix: float = 0.0
    mask_weight_mix: float = MASK_WEIGHT_MIX
    preset: str | None = None
    augment: bool = False  # the images, as in training
    seed: int = 0  # of the choice of images, of augmentation, and of the order in which groups are visited

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(f"--method is {self.method!r}, expected one of {', '.join(get_args(Method))}")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}, expected at least 0")
        if self.needs_images:
            check_settings(self.objective, self.stream, self.weight_mix, self.mask_weight_mix, self.preset)
            return
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in {"method", "seed"} and value != field.default:
                raise InputError(
                    f"--{field.name.replace('_', '-')} is {value}, but --method {self.method} matches weights, which "
                    "has no use for it: leave it out"
                )

    @property
    def needs_images(self) -> bool:
        """Whether matching itself looks at images."""
        return self.method == "activations"

    def is_published(self, arch: str) -> bool:
        """Whether this is how the paper's code matched networks of `arch`, whichever images it is shown.

        ResNet20 was matched by the statistic of `preset: paper`. VGG11 and ResNet50 were matched by the correlation of
        all images at once, at the last point of a stream, by activations alone, for networks and masks alike: here
        `stream: last, mask_weight_mix: 0`, which leaves out the 1e-4 that the code adds to each denominator.
        """
        return replace(self, augment=False, seed=0) in (_PRESET, *_PUBLISHED.get(arch, ()))

    @property
    def measure(self) -> str:
        """What `MatchResult.objective` is, in words."""
        return _MEASURES[self.preset or self.objective if self.needs_images else "weights"]

    def match(
        self,
        source: Network,
        reference: Network,
        batches: Iterable[Any],
        symmetry: Symmetry,
        masks: Mapping[str, Mask],
        progress: Callable[[int, int], None] | None = None,
    ) -> MatchResult:
        """The permutations that align `source` to `reference`; methods by weights do not look at `batches`."""
        if self.method != "activations":
            return match_weights(source, reference, symmetry, masks=masks, method=self.method, seed=self.seed)
        names = ("objective", "stream", "weight_mix", "mask_weight_mix", "preset")
        settings = {name: getattr(self, name) for name in names}
        return match_activations(source, reference, batches, symmetry, masks=masks, progress=progress, **settings)


_PRESET, _POOLED = Matcher(preset="paper"), Matcher(stream="last", mask_weight_mix=0.0)
_PUBLISHED = {"vgg11": (_POOLED,), "resnet50": (_POOLED,)}


def matcher_of(settings: Mapping[str, Any], seed: int = 0) -> Matcher:
    """What a study says about a way to match, without the images; `seed` unless it says another.

    Raises InputError for what cannot be.
    """
    own = {"seed": seed, **{key: value for key, value in settings.items() if key not in OF_IMAGES}}
    known = [field.name for field in fields(Matcher)]
    for key in own:
        if key not in known:
            raise InputError(f"a matcher has no setting {key!r}: expected some of {', '.join([*known, *OF_IMAGES])}")
    return Matcher(**own)
