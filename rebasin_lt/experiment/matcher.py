"""How two networks are matched: a method, and the settings that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from rebasin_lt.errors import InputError, check_least
from rebasin_lt.matching.methods import MatchingMethod, Pair, import_method, matching_method
from rebasin_lt.matching.objectives import check_activation_settings
from rebasin_lt.settings.choices import check_names
from rebasin_lt.settings.options import MatchOptions
from rebasin_lt.settings.user_code import is_user_code

if TYPE_CHECKING:
    from rebasin_lt.batches import Network
    from rebasin_lt.matching.activation import MatchResult
    from rebasin_lt.pruning.mask import Mask
    from rebasin_lt.symmetry.trace import Symmetry

OF_IMAGES = ("at", "num_images", "batch_size")
"""Settings of a matcher in a study that `Matcher` does not have."""


@dataclass(frozen=True)
class Matcher(MatchOptions):
    """A method of matching and its settings.

    Raises InputError, with both values, for one that the method has no use for, and for values that it cannot have.
    """

    def __post_init__(self) -> None:
        method = self._method
        check_least("--seed", self.seed, 0)
        check_activation_settings(self.objective, self.stream, self.weight_mix, self.mask_weight_mix, self.preset)
        used = {"method", "seed", *method.uses} | ({"augment"} if method.needs_images else set())
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in used and value != field.default:
                raise InputError(
                    f"--{field.name.replace('_', '-')} is {value}, but --method {self.method} has no use for it: "
                    "leave it out"
                )

    def check_code(self) -> None:
        """Raise InputError where the method is code of the user's own that cannot be called."""
        if is_user_code(self.method):
            import_method(self.method, "--method")

    @property
    def _method(self) -> MatchingMethod:
        return matching_method(self.method, "--method")

    @property
    def needs_images(self) -> bool:
        """Whether matching itself looks at images."""
        return self._method.needs_images

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
        return self._method.measure(vars(self))

    def match(
        self,
        source: Network,
        reference: Network,
        batches: Iterable[Any],
        symmetry: Symmetry,
        masks: Mapping[str, Mask],
        progress: Callable[[int, int], None] | None = None,
    ) -> MatchResult:
        """The permutations that match `source` to `reference`; methods by weights do not look at `batches`."""
        settings = {name: getattr(self, name) for name in self._method.uses}
        pair = Pair(source, reference, batches, symmetry, masks)
        return self._method.match(pair, settings, self.seed, progress)


_PRESET, _POOLED = Matcher(preset="paper"), Matcher(stream="last", mask_weight_mix=0.0)
_PUBLISHED = {"vgg11": (_POOLED,), "resnet50": (_POOLED,)}


def matcher_of(settings: Mapping[str, Any], seed: int = 0) -> Matcher:
    """What a study says about a way to match, without the images; `seed` unless it says another.

    Raises InputError for what cannot be.
    """
    own = {"seed": seed, **{key: value for key, value in settings.items() if key not in OF_IMAGES}}
    known = [field.name for field in fields(Matcher)]
    check_names("a matcher", own, [*known, *OF_IMAGES])
    return Matcher(**own)
