"""What a study asks for: a grid of sparse runs, and what they need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from rebasin_lt.errors import InputError, check_least
from rebasin_lt.experiment.methods import ENSEMBLES, MATCHED, control_methods, fixed_methods, kind_of_control
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.experiment.signed_methods import SignedMethod, check_signs, moments_of_b, read_method
from rebasin_lt.judging.losses import without_default
from rebasin_lt.moment import END, Moment
from rebasin_lt.pruning.waypoints import waypoints
from rebasin_lt.settings.choices import check_known, check_names
from rebasin_lt.settings.field_types import check_fields
from rebasin_lt.settings.signatures import written_class
from rebasin_lt.study.axes import at_point, check_among, check_axes, check_axis_values, check_lists, grid_points
from rebasin_lt.study.cells import Only, SparseCell, check_only, sparse_cells
from rebasin_lt.study.given import check_given

GROWS = ("seeds", "widths", "methods", "matchers")
"""Axes to which a study that lies in a folder may get more values, beside those that it names itself."""

MAX_SEED = (2**32 - 1) // 10 - 1
"""Parts of a repetition have seeds of their own, ten times as large; NumPy takes 32 bits."""

_LATER = (("recipe", "imp"), ("recipe", "module"), ("recipe", "sign_in"), ("axes",), ("given",), ("early",), ("only",))


@dataclass(frozen=True)
class Study:
    """A grid widths × seeds × sparsities × rewind moments × methods over one recipe.

    Sparsities are the recipe's `targets`, moments its `rewinds`. A method is one of `fixed_methods`, of
    `control_methods`, or the name of a matcher: the settings of `Matcher`, and of which images (`num_images`,
    `batch_size`), and B's moment (`at`); or one of these with signs, as `read_method` reads it. `barrier` are settings
    of `BarrierOptions` and the matchers it is measured for, `diversity` the sparsities and moments at which the seeds'
    networks are compared as ensembles, and the methods that are. Without methods, only ensembles are trained.

        >>> study = rb.Study(seeds=[0, 1, 2], widths=[1, 2], methods=["lth", "permuted", "naive"])
        >>> study.widths, study.recipe.targets
        ((1.0, 2.0), (0.9, 0.95, 0.98))

    Args:
        title: of the report
        recipe: what is trained, and for how long
        seeds: repetitions, each with an A and a B of its own
        widths: factors on the network's channels
        methods: masks to train under, names of matchers among them; with signs as METHOD+mask or METHOD+own@MOMENT
        matchers: settings by name, such as {permuted: {}, early: {at: 5ep}, published: {preset: paper}}
        barrier: settings of the barrier between A and B; not measured if not given
        diversity: sparsities and rewinds at which ensembles are compared, and methods that are; not done if not given
        axes: more axes of the grid, settings of stages with their values, such as {sparse.learning_rate: [0.05, 0.1]}
        given: networks and masks that exist instead of trained ones: {a: RUN, b: RUN, mask: FILE}, for all seeds, or
            with {seed} in the paths, or a list of one per seed
        early: train B only to the last moment that anything needs of it, with the schedule of the whole
        only: widths, sparsities and rewinds of some methods, {permuted_paper: {sparsities: [0.95]}}; others have all

    Raises InputError for a grid that cannot be.
    """

    title: str = "Sparse masks, aligned by weight symmetry"
    recipe: Recipe = field(default_factory=Recipe)
    seeds: Sequence[int] = field(kw_only=True)
    widths: Sequence[float] = (1,)
    methods: Sequence[str] = ("lth", "permuted", "naive")
    matchers: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"permuted": {}})
    barrier: Mapping[str, Any] | None = None
    diversity: Mapping[str, Any] | None = None
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    given: Mapping[str, Any] | None = None
    early: bool = False
    only: Only = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "widths", tuple(map(float, self.widths)))  # 1 and 1.0 are one, in files too
        check_axes(self.axes)
        named: dict[str, Any] = {"seeds": self.seeds, "widths": self.widths}
        named |= {f"axes.{name}": own for name, own in self.axes.items()}
        if self.methods or not self.diversity:
            named["methods"] = self.methods
        for name, values in named.items():
            check_axis_values(name, values)
        if not all(0 <= seed <= MAX_SEED for seed in self.seeds):
            raise InputError(f"seeds is {list(self.seeds)}, expected numbers from 0 to {MAX_SEED}")
        if not all(0 < width < math.inf for width in self.widths):
            raise InputError(f"widths is {list(self.widths)}, expected positive numbers")
        for recipe in self._recipes:
            self._check_recipe(recipe)
        self._check_methods()
        for recipe in self._recipes:
            self._check_moments(recipe)
        if self.given is not None:
            check_given(self.given, self.seeds, self.widths, self.recipe.targets)
        check_only(self._grid, self.methods, self.only)
        self._check_barrier()
        self._check_diversity()
        if self.early:
            self._check_early()

    def recipe_of(self, width: float, axes: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe of networks of one width, and of one value of each axis, with every moment that is to be kept."""
        recipe = at_point(self.recipe, axes or {})
        return replace(recipe, network={**recipe.network, "width": width}, rewinds=self.kept_moments)

    @cached_property
    def cells(self) -> tuple[SparseCell, ...]:
        """The sparse runs of a repetition at one value of each axis, in the order of the grid."""
        return tuple(sparse_cells(self._grid, self.methods, self.only))

    @property
    def _grid(self) -> dict[str, Sequence[Any]]:
        return {"widths": self.widths, "sparsities": self.recipe.targets, "rewinds": self.recipe.rewinds}

    @property
    def _recipes(self) -> list[Recipe]:
        return [at_point(self.recipe, values) for values in grid_points(self.axes)]

    @cached_property
    def compared(self) -> tuple[str, ...]:
        """What is compared as ensembles: methods, and those of `ENSEMBLES`; nothing in a study without diversity."""
        if self.diversity is None:
            return ()
        default = (*ENSEMBLES, "lth", self.diversity.get("matcher", "permuted"), "naive")
        return tuple(map(str, self.diversity.get("methods", default)))

    @cached_property
    def trained(self) -> dict[str, SignedMethod]:
        """The methods by which sparse networks are trained, for the grid or for ensembles, by their spelling."""
        names = dict.fromkeys([*map(str, self.methods), *(name for name in self.compared if name not in ENSEMBLES)])
        return {name: read_method(name) for name in names}

    @cached_property
    def kept_moments(self) -> tuple[str, ...]:
        """Those to rewind to, those to match and to take signs at, and the one that pruning goes back to."""
        pruned_from = [recipe.pruned_from for recipe in self._recipes if recipe.pruned_from]
        return tuple(dict.fromkeys([*self.recipe.rewinds, *self._looked_at("ab"), *pruned_from]))

    @cached_property
    def moments_of_b(self) -> tuple[str, ...]:
        """Those at which B is kept: where it stops early, what A is pruned from, and A's own signs, are none of its
        business."""
        return tuple(dict.fromkeys([*self.recipe.rewinds, *self._looked_at("b")])) if self.early else self.kept_moments

    def moments_of(self, role: str) -> tuple[str, ...]:
        """Those that something needs of the network of a role: one that is given need hold no others."""
        masks = {method.base: fixed_methods().get(method.base) for method in self.trained.values()}
        of_b = "imp" in self.compared or any(record is not None and record.mask == "b" for record in masks.values())
        pruned = of_b if role == "b" else "mask" not in (self.given or {})
        pruned_from = [recipe.pruned_from for recipe in self._recipes if recipe.pruned_from and pruned]
        rewinds = self.recipe.rewinds if any(method.weights == role for method in self.trained.values()) else ()
        return tuple(dict.fromkeys([*rewinds, *self._looked_at(role), *pruned_from]))

    @property
    def b_ends_at(self) -> str | None:
        """The moment at which the dense training of B stops; None where it goes on to its end."""
        return max(self.moments_of_b, key=lambda name: Moment.parse(name).count) if self.early else None

    def _looked_at(self, networks: str) -> list[str]:
        """Those to match at and of the own signs, of `networks`, in an order that is not that of the methods."""
        at = [settings["at"] for settings in self.matchers.values() if settings.get("at", END) != END]
        at = at if "b" in networks else []  # A is matched at its end
        signs = {
            str(method.moment)
            for method in self.trained.values()
            if method.moment not in {None, END} and method.weights in networks
        }
        return [*at, *sorted(signs, key=lambda name: (Moment.parse(name).unit, Moment.parse(name).count, name))]

    def primitives(self) -> dict[str, Any]:
        """As config.yaml holds it."""
        plain: dict[str, Any] = _plain(asdict(self))
        for *place, name in _LATER:  # a study that has none is written as earlier releases wrote it
            settings = plain["recipe"] if place else plain
            if not settings[name]:
                del settings[name]
        return {**plain, "recipe": without_default(plain["recipe"])}

    def _check_recipe(self, recipe: Recipe) -> None:
        for name, value in vars(recipe).items():
            if value is None and name not in {"sparse_epochs", "module"}:
                raise InputError(f"recipe.{name} is null: give it a value, or leave it out")
        for name in ("targets", "rewinds"):
            check_axis_values(f"recipe.{name}", getattr(recipe, name))
        for name in ("dense_epochs", "epochs_per_round", "sparse_epochs"):
            check_least(f"recipe.{name}", getattr(recipe, name), 1)
        if recipe.network.get("width", 1) != 1:
            raise InputError("recipe.network.width is set: a study takes it from `widths`, leave it out")

    def _check_methods(self) -> None:
        for name, settings in self.matchers.items():
            if name in fixed_methods() or name in control_methods():
                raise InputError(f"matchers holds {name}, which is the name of a method already: choose another")
            if not isinstance(settings, Mapping):
                raise InputError(f"matchers.{name} is {settings!r}, expected settings such as {{preset: paper}}")
            if not str(name).replace("_", "").isalnum() or not isinstance(name, str):
                raise InputError(f"matchers holds {name!r}, which names folders: use letters, digits and _")
        for name in self.methods:
            self._check_method(name)

    def _check_method(self, name: str) -> None:
        known = [*fixed_methods(), *self.matchers, *control_methods()]
        base = read_method(str(name)).base
        if kind_of_control(base) is None:
            check_known("one of methods", base, known, "a name under matchers, or package.module:name")
        check_signs(str(name))

    def _check_moments(self, recipe: Recipe) -> None:
        waypoints(recipe.targets, recipe.fraction)
        for name in self.kept_moments:
            moment = Moment.parse(name)
            if str(moment) != name:
                raise InputError(f"moment {name!r} names folders: write it as {moment}")
            if moment.unit == "ep" and moment.count > recipe.dense_epochs:
                raise InputError(f"moment {name} is after the end of dense training at {recipe.dense_epochs}ep")
        for name in recipe.rewinds:
            recipe.epochs_after(name)

    def _check_barrier(self) -> None:
        if self.barrier is None:
            return
        check_names("barrier", self.barrier, BARRIER)
        check_lists("barrier", self.barrier, ("matchers",))
        for name in self.barrier.get("matchers", ()):
            check_known("one of barrier.matchers", name, self.matchers)

    def _check_diversity(self) -> None:
        if self.diversity is None:
            return
        check_names("diversity", self.diversity, DIVERSITY)
        check_lists("diversity", self.diversity, ("sparsities", "rewinds", "methods"))
        if len(self.seeds) < 2:
            raise InputError(f"diversity compares the networks of several seeds, but seeds is {list(self.seeds)}")
        for name, known in (("sparsities", self.recipe.targets), ("rewinds", self.recipe.rewinds)):
            check_among(f"diversity.{name}", self.diversity.get(name, known), known)
        if "methods" in self.diversity:
            self._check_compared(self.diversity["methods"])
        else:
            check_known("diversity.matcher", self.diversity.get("matcher", MATCHED), self.matchers)

    def _check_compared(self, names: Sequence[str]) -> None:
        """What ensembles are made of, where the study says it."""
        check_axis_values("diversity.methods", names)
        if "matcher" in (self.diversity or {}):
            raise InputError("diversity.matcher is set beside diversity.methods, which name matchers: leave it out")
        for name in names:
            if name not in ENSEMBLES:
                self._check_method(name)
            elif name in self.matchers:
                raise InputError(
                    f"diversity.methods holds {name!r}, a matcher's name, but as an ensemble it is B's own: give that "
                    "matcher another name"
                )

    def _check_early(self) -> None:
        """Raise InputError, naming it, for what needs B beyond the moments at which it is kept."""
        hint = "leave early out, or that"
        if self.given is not None and "b" in self.given:
            raise InputError(f"early is true, but given.b is trained already: {hint}")
        if self.barrier is not None:
            raise InputError(f"early is true, but barrier needs B at the end of its training: {hint}")
        for name, settings in self.matchers.items():
            if settings.get("at", END) == END:
                raise InputError(f"early is true, but matchers.{name} matches at the end of B: give it `at`, a moment")
        for name in [*map(str, self.methods), *self.compared]:
            if END in moments_of_b(name, self.recipe.rewinds[0], self.matchers):
                where = "methods" if name in self.methods else "diversity"
                raise InputError(f"early is true, but {name} of {where} needs B at the end of its training: {hint}")
        for name in self.moments_of_b:
            if Moment.parse(name).unit == "it" and Moment.parse(name).count:
                raise InputError(f"early is true, but moment {name} counts steps: give epochs, or 0it, to stop after")


BARRIER = (
    "num_alphas",
    "corrections",
    "splits",
    "num_images",
    "num_test_images",
    "batch_size",
    "augment",
    "matchers",
    "loss",
)
DIVERSITY = ("sparsities", "rewinds", "matcher", "methods")


def _plain(value: Any) -> Any:
    value = written_class(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
