"""What a study asks for: a grid of sparse runs, and what they need."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.methods import FIXED_METHODS, control_methods
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.moment import Moment
from rebasin_lt.pruning.waypoints import waypoints

GROWS = ("seeds", "widths", "methods", "matchers")
"""Axes to which a study that lies in a folder may get more values."""

MAX_SEED = (2**32 - 1) // 10 - 1
"""Parts of a repetition have seeds of their own, ten times as large; NumPy takes 32 bits."""

_FINAL = "final"
_LATER = ("imp", "module")


@dataclass(frozen=True)
class Study:
    """A grid widths × seeds × sparsities × rewind moments × methods over one recipe.

    Sparsities are the recipe's `targets`, moments its `rewinds`. A method is one of FIXED_METHODS or `control_methods`,
    or the name of a matcher: the settings of `Matcher`, and of which images (`num_images`, `batch_size`), and B's
    moment (`at`). `barrier` are settings of `Barrier` and the matchers it is measured for, `diversity` the sparsities
    and moments at which the seeds' networks are compared as ensembles.

    Raises InputError for a grid that cannot be.
    """

    title: str
    recipe: Recipe
    seeds: Sequence[int]
    widths: Sequence[float] = (1,)
    methods: Sequence[str] = ("lth", "permuted", "naive")
    matchers: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"permuted": {}})
    barrier: Mapping[str, Any] | None = None
    diversity: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(map(float, self.widths)))  # 1 and 1.0 are one, in files too
        for name, values in (("seeds", self.seeds), ("widths", self.widths), ("methods", self.methods)):
            _check_axis(name, values)
        if not all(0 <= seed <= MAX_SEED for seed in self.seeds):
            raise InputError(f"seeds is {list(self.seeds)}, expected numbers from 0 to {MAX_SEED}")
        if not all(0 < width < math.inf for width in self.widths):
            raise InputError(f"widths is {list(self.widths)}, expected positive numbers")
        self._check_recipe()
        self._check_methods()
        self._check_moments()
        self._check_barrier()
        self._check_diversity()

    def recipe_of(self, width: float) -> Recipe:
        """The recipe of networks of one width, with every moment that a dense run of it must keep."""
        network = {**self.recipe.network, "width": width}
        return Recipe(**{**vars(self.recipe), "network": network, "rewinds": self.kept_moments})

    @property
    def kept_moments(self) -> tuple[str, ...]:
        """Those to rewind to, those to match at, and the one that pruning goes back to."""
        at = [settings["at"] for settings in self.matchers.values() if settings.get("at", _FINAL) != _FINAL]
        pruned_from = [self.recipe.pruned_from] if self.recipe.pruned_from else []
        return tuple(dict.fromkeys([*self.recipe.rewinds, *at, *pruned_from]))

    def primitives(self) -> dict[str, Any]:
        """As config.yaml holds it."""
        plain: dict[str, Any] = _plain(asdict(self))
        for name in _LATER:  # a study that has none is that of an earlier release, to the byte
            if not plain["recipe"][name]:
                del plain["recipe"][name]
        return plain

    def _check_recipe(self) -> None:
        for name, value in vars(self.recipe).items():
            if value is None and name not in {"sparse_epochs", "module"}:
                raise InputError(f"recipe.{name} is null: give it a value, or leave it out")
        for name in ("targets", "rewinds"):
            _check_axis(f"recipe.{name}", getattr(self.recipe, name))
        for name in ("dense_epochs", "epochs_per_round", "sparse_epochs"):
            count = getattr(self.recipe, name)
            if count is not None and count < 1:
                raise InputError(f"recipe.{name} is {count}, expected at least 1")
        if self.recipe.network.get("width", 1) != 1:
            raise InputError("recipe.network.width is set: a study takes it from `widths`, leave it out")

    def _check_methods(self) -> None:
        for name, settings in self.matchers.items():
            if name in FIXED_METHODS or name in control_methods():
                raise InputError(f"matchers holds {name}, which is the name of a method already: choose another")
            if not isinstance(settings, Mapping):
                raise InputError(f"matchers.{name} is {settings!r}, expected settings such as {{preset: paper}}")
            if not str(name).replace("_", "").isalnum() or not isinstance(name, str):
                raise InputError(f"matchers holds {name!r}, which names folders: use letters, digits and _")
        known = [*FIXED_METHODS, *self.matchers, *control_methods()]
        for name in self.methods:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise InputError(
                    f"methods holds {name!r}, which is not known{hint}: expected {', '.join(known)}, or a name under "
                    "matchers"
                )

    def _check_moments(self) -> None:
        waypoints(self.recipe.targets, self.recipe.fraction)
        for name in self.kept_moments:
            moment = Moment.parse(name)
            if str(moment) != name:
                raise InputError(f"moment {name!r} names folders: write it as {moment}")
            if moment.unit == "ep" and moment.count > self.recipe.dense_epochs:
                raise InputError(f"moment {name} is after the end of dense training at {self.recipe.dense_epochs}ep")
        for name in self.recipe.rewinds:
            self.recipe.epochs_after(name)

    def _check_barrier(self) -> None:
        if self.barrier is None:
            return
        _check_names("barrier", self.barrier, BARRIER)
        _check_lists("barrier", self.barrier, ("matchers",))
        for name in self.barrier.get("matchers", ()):
            if name not in self.matchers:
                raise InputError(f"barrier.matchers holds {name!r}, expected some of {', '.join(self.matchers)}")

    def _check_diversity(self) -> None:
        if self.diversity is None:
            return
        _check_names("diversity", self.diversity, DIVERSITY)
        _check_lists("diversity", self.diversity, ("sparsities", "rewinds"))
        if len(self.seeds) < 2:
            raise InputError(f"diversity compares the networks of several seeds, but seeds is {list(self.seeds)}")
        for name, known in (("sparsities", self.recipe.targets), ("rewinds", self.recipe.rewinds)):
            for value in self.diversity.get(name, known):
                if value not in known:
                    raise InputError(
                        f"diversity.{name} holds {value}, expected some of the grid's: {', '.join(map(str, known))}"
                    )
        if self.diversity.get("matcher", "permuted") not in list(self.matchers):
            raise InputError(
                f"diversity.matcher is {self.diversity.get('matcher', 'permuted')!r}, expected one of "
                f"{', '.join(self.matchers)}"
            )


BARRIER = ("num_alphas", "corrections", "splits", "num_images", "num_test_images", "batch_size", "matchers")
DIVERSITY = ("sparsities", "rewinds", "matcher")


def _check_axis(name: str, values: Sequence[Any]) -> None:
    if not values:
        raise InputError(f"{name} is empty, expected at least one value")
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]  # as folders are named
    for text in texts:
        if texts.count(text) > 1:
            raise InputError(f"{name} is {list(values)}, which holds {text} twice")


def _check_names(name: str, settings: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in settings:
        if key not in known:
            raise InputError(f"{name} has no setting {key!r}: expected {', '.join(known)}")


def _check_lists(name: str, settings: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in keys:
        if key in settings and not (isinstance(settings[key], list | tuple) and settings[key]):
            raise InputError(f"{name}.{key} is {settings[key]!r}, expected a list of some, or leave it out for all")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
