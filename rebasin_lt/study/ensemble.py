"""Ensembles from one mask, beside dense, IMP, LTH and naive ones of the same size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rebasin_lt.analyses.diversity import Progress, measure, open_test
from rebasin_lt.analyses.permute import Alignment, align
from rebasin_lt.errors import InputError
from rebasin_lt.experiment import stages
from rebasin_lt.experiment.file_names import FINAL
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.callbacks.resume_point import LAST
from rebasin_lt.lit.checkpoint import load_network, network_state, read_checkpoint
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.moment import Moment
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.waypoints import waypoints
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.storage.run_folder import finished, run_once
from rebasin_lt.study.checks import check_data

SAME_SPARSITY = 0.005  # how far a given mask may be from the sparsity of the others


@dataclass(frozen=True)
class Ensembles:
    """What to train, what is given, and where everything lies; see the options of `rebasin-lt ensemble`."""

    out: Path
    recipe: Recipe = field(default_factory=lambda: Recipe(targets=(0.95,)))
    members: int = 4
    dense_a: Path | None = None
    mask: Path | None = None
    dense: tuple[Path, ...] = ()

    @property
    def network_a(self) -> Path:
        return self.dense_a or self.out / "a" / "dense"

    @property
    def mask_a(self) -> Path:
        return self.mask or stages.mask_file(self.out / "a" / "imp", self.recipe.targets[-1])

    def network(self, index: int) -> Path:
        """The dense network B_i; members count from 1."""
        return self.dense[index - 1] if self.dense else self.folder(index) / "dense"

    def folder(self, index: int) -> Path:
        return self.out / f"member={index}"

    def permuted_mask(self, index: int) -> Path:
        return self.folder(index) / "match" / self.mask_a.name

    def checkpoints(self) -> dict[str, list[Path]]:
        """The trained members by setting."""
        members = range(1, self.members + 1)
        trained: dict[str, list[Path]] = {
            "dense": [stages.trained_file(self.network(index)) or self.network(index) for index in members],
            "imp": [stages.ticket_file(self.folder(index) / "imp", self.recipe.targets[-1]) for index in members],
        }
        sparse = ("lth", "permuted", "naive")
        return trained | {name: [self.folder(index) / name / FINAL for index in members] for name in sparse}


class Stage(NamedTuple):
    """A folder, the epochs that it trains, and what makes it."""

    folder: Path
    epochs: int
    run: Callable[[], object]


def run_ensembles(settings: Ensembles, progress: Progress | None = None) -> dict[str, Any]:
    """Train what is not complete yet, measure every ensemble on the test images, write `result.json`.

    Members as in arXiv 2505.05143, Appendix C, for N dense networks B_i and the mask m of A. *dense*: the B_i. *imp*:
    the tickets of the B_i, each pruned and fine-tuned by itself. *lth*: A's rewound weights under m, in N data orders.
    *permuted*: B_i's rewound weights under π_i(m). *naive*: the same under m. The three sparse runs of one index share
    their data order. A is none of the B_i, so that no permuted or naive member is LTH; the paper does not say.

    Everything is checked before a folder is made. Raises InputError for settings that cannot be, and for given
    networks or masks that do not fit.
    """
    contents = _check(settings)
    work = partial(_train_and_measure, settings, progress or (lambda *_: None))
    return run_once(settings.out, {**_primitives(asdict(settings)), **contents}, work)


def _train_and_measure(settings: Ensembles, progress: Progress) -> dict[str, Any]:
    _run(list(_plan(settings)), progress)
    checkpoints, code = settings.checkpoints(), settings.recipe.own_code
    networks = {name: [load_network(path, code).network for path in paths] for name, paths in checkpoints.items()}
    images = open_test(build_data(**settings.recipe.data))
    return {
        "data": settings.recipe.data["name"],
        "sparsity": Mask.load(settings.mask_a).sparsity,
        "checkpoints": _primitives(checkpoints),
        **measure(networks, images, progress),
    }


def _run(plan: list[Stage], progress: Progress) -> None:
    """Every stage in turn; the epochs still to be trained are what progress is counted in."""
    left = [stage.epochs if finished(stage.folder) is None else 0 for stage in plan]
    for index, stage in enumerate(plan):
        progress("epoch", sum(left[:index]), sum(left))
        stage.run()


def _plan(settings: Ensembles) -> Iterator[Stage]:
    recipe, seed = settings.recipe, _seed(0)
    if settings.dense_a is None:
        yield _dense(settings.network_a, recipe, seed)
    if settings.mask is None:
        yield _imp(settings.out / "a" / "imp", recipe, settings.network_a, seed + 1)
    for index in range(1, settings.members + 1):
        yield from _member(settings, index)


def _member(settings: Ensembles, index: int) -> Iterator[Stage]:
    """The stages of one initialisation: dense, its own IMP, matching, and three sparse runs in one data order."""
    recipe, folder, network, seed = settings.recipe, settings.folder(index), settings.network(index), _seed(index)
    if not settings.dense:
        yield _dense(network, recipe, seed)
    yield _imp(folder / "imp", recipe, network, seed + 1)
    yield Stage(folder / "match", 0, partial(_match, settings, network, folder / "match"))
    from_a, from_b = (stages.rewind_file(dense, recipe.rewinds[-1]) for dense in (settings.network_a, network))
    solutions = {
        "lth": (settings.mask_a, from_a),
        "permuted": (settings.permuted_mask(index), from_b),
        "naive": (settings.mask_a, from_b),
    }
    for name, (mask, init_from) in solutions.items():
        epochs = recipe.epochs_after(recipe.rewinds[-1])
        run = partial(stages.train_sparse, folder / name, recipe, mask, init_from, seed + 2, epochs)
        yield Stage(folder / name, epochs, run)


def _dense(folder: Path, recipe: Recipe, seed: int) -> Stage:
    return Stage(folder, recipe.dense_epochs, partial(stages.train_dense, folder, recipe, seed))


def _imp(folder: Path, recipe: Recipe, network: Path, seed: int) -> Stage:
    return Stage(folder, recipe.prune_epochs, partial(stages.prune, folder, recipe, network, seed))


def _match(settings: Ensembles, network: Path, folder: Path) -> None:
    ckpt_a, ckpt_b = (str(stages.trained_file(dense)) for dense in (settings.network_a, network))
    masks, model, data = (str(settings.mask_a),), settings.recipe.own_code, settings.recipe.own_data
    align(Alignment(ckpt_a=ckpt_a, ckpt_b=ckpt_b, masks=masks, model=model, data=data, num_alphas=0), folder)


def _seed(index: int) -> int:
    """Of A (0) or of B_i; the seeds after it are those of its pruning and of its sparse runs."""
    return 10 * index


def _check(settings: Ensembles) -> dict[str, Any]:
    """Refuse what cannot be, before anything is written; returns what identifies the contents of the given files."""
    recipe = settings.recipe
    if settings.members < 2:
        raise InputError(f"--members is {settings.members}, expected at least 2")
    if settings.mask and not settings.dense_a:
        raise InputError(
            f"--mask {settings.mask} needs --dense-a: the run of the dense network that it was pruned from"
        )
    waypoints(recipe.targets, recipe.fraction)
    recipe.epochs_after(recipe.rewinds[-1])
    moment = Moment.parse(recipe.rewinds[-1])
    if moment.unit == "ep" and moment.count > recipe.dense_epochs:
        raise InputError(f"recipe.rewinds ends at {moment}, after the end of training at {recipe.dense_epochs}ep")
    open_test(check_data(recipe))
    for name in ("dense", "prune", "sparse"):
        _build(recipe, name)
    given = {"--dense-a": settings.dense_a} if settings.dense_a else {}
    given |= {f"--dense {index}": run for index, run in enumerate(settings.dense, start=1)}
    contents: dict[str, Any] = {"sha256": [_check_run(argument, run, recipe) for argument, run in given.items()]}
    return {**contents, "sha256_mask": _check_mask(settings.mask, recipe)} if settings.mask else contents


def _build(recipe: Recipe, stage: str, **more: Any) -> Classifier:
    settings = {**recipe.network, **getattr(recipe, stage), **more}
    try:
        return Classifier(**settings)
    except TypeError as error:
        reason = str(error).removeprefix("Classifier.__init__() ")
        raise InputError(f"recipe.network and recipe.{stage} are settings of Classifier, which {reason}") from error


def _check_run(argument: str, run: Path, recipe: Recipe) -> list[str]:
    """Hashes of the trained and the rewound network of a run that is given, which must fit the recipe."""
    trained, rewound = stages.trained_file(run), stages.rewind_file(run, recipe.rewinds[-1])
    if trained is None:
        raise InputError(f"{argument} {run} holds neither {FINAL} nor {LAST}: give a finished dense run")
    if not rewound.is_file():
        raise InputError(f"{argument} {run} has no {rewound.relative_to(run)}: set recipe.rewinds to a moment it kept")
    for path in (trained, rewound):
        _build(recipe, "dense", init_from=str(path))
    return [hash_tensors(network_state(read_checkpoint(path))) for path in (trained, rewound)]


def _check_mask(path: Path, recipe: Recipe) -> str:
    mask, target = Mask.load(path), recipe.targets[-1]
    mask.check_fits(dict(_build(recipe, "sparse").net.named_parameters()))
    if abs(mask.sparsity - target) > SAME_SPARSITY:
        raise InputError(
            f"--mask {path} has sparsity {mask.sparsity:.4f} and recipe.targets ends at {target:g}, to which the "
            "others are pruned: set it to the mask's"
        )
    return mask.hash


def _primitives(value: Any) -> Any:
    """Paths as text, as files hold them."""
    if isinstance(value, dict):
        return {name: _primitives(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_primitives(each) for each in value]
    return str(value) if isinstance(value, Path) else value
