"""What there is of a study, complete or not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rebasin_lt.experiment.file_names import DIVERGED
from rebasin_lt.experiment.prices import OF_A, Price, price_of, price_of_a
from rebasin_lt.storage.run_folder import finished
from rebasin_lt.study.axes import at_point, axes_text, grid_points
from rebasin_lt.study.folder import read_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.ledger import images_per_epoch, ledger, steps_of_epoch
from rebasin_lt.study.plan import KINDS, plan
from rebasin_lt.study.state import State


@dataclass(frozen=True)
class StudyOutcome:
    """What there is of a study, complete or not. Accuracies and errors are fractions in [0, 1].

    Every list holds one mapping per run, which also has `axes`, such as "sparse.learning_rate=0.05", where the grid has
    axes of its own that the run depends on:

    - `stages`: kind, path, epochs, images, done (bool), in the order of the plan; diverged (True) where training did,
      or what was measured is not finite: no other list has it
    - `dense`: width, seed, role ("a" or "b"), top1, top5; `pruned`, the IMP tickets, also target
    - `sparse`: width, seed, method, sparsity (the target), rewind ("0it", "20ep"), top1, top5
    - `matches`: width, seed, matcher, objective and sizes by group, masks (target, the overlaps (IoU) with B's
      one-shot mask: permuted, unpermuted, and by chance independent, and of `KEYS` of `experiment/before.py` what was
      known before training)
    - `barriers`: width, seed, matcher, split, correction, when ("before" or "after"), alphas, loss, error,
      loss_barrier, error_barrier; no error (None) by a loss that has none
    - `diversity`: width, sparsity, rewind, setting, members, accuracy, accuracy_std, ensemble, disagreement,
      disagreement_std (over pairs), kl, js
    - `prices`: method, rewind, and the epochs that one more network costs, dense, pruning and sparse; and of `A`, which
      all share; None for what is given, and what cannot be told

    Runs are picked by their keys:

        >>> outcome = rb.StudyOutcome("mine", {}, sparse=[{"seed": 0, "method": "lth", "top1": 0.9}])
        >>> [run["top1"] for run in outcome.sparse if run["method"] == "lth"]
        [0.9]
    """

    title: str
    settings: Mapping[str, Any]
    stages: list[dict[str, Any]] = field(default_factory=list)
    dense: list[dict[str, Any]] = field(default_factory=list)
    pruned: list[dict[str, Any]] = field(default_factory=list)
    sparse: list[dict[str, Any]] = field(default_factory=list)
    matches: list[dict[str, Any]] = field(default_factory=list)
    barriers: list[dict[str, Any]] = field(default_factory=list)
    diversity: list[dict[str, Any]] = field(default_factory=list)
    prices: list[dict[str, Any]] = field(default_factory=list)


def read_outcome(folder: Path | str) -> StudyOutcome:
    """Read a study's folder, complete or not.

    Raises InputError if no study lies there, BrokenFileError for files in it that cannot be read.

        >>> import json
        >>> from pathlib import Path
        >>> _ = Path("config.yaml").write_text(json.dumps(rb.Study(seeds=[0]).primitives()))
        >>> outcome = rb.read_outcome(".")
        >>> outcome.sparse, sum(stage["done"] for stage in outcome.stages)
        ([], 0)
    """
    folder = Path(folder)
    study = read_study(folder)
    state = State.of(plan(study), folder, unsaid=True)
    images = None if study.recipe.own_data else images_per_epoch(study)  # a folder may not choose code to import
    outcome = StudyOutcome(study.title, study.primitives(), ledger(state.plan, state.done, images))
    for stage, row in zip(state.plan.values(), outcome.stages, strict=True):
        result = finished(folder / stage.path) if stage.path in state.done else None
        if not _is_finite(result or {}) or (result is None and (folder / stage.path / DIVERGED).is_file()):
            row["diverged"] = True
        elif result is not None:
            for name, run in KINDS[stage.kind].read(study, stage, result):
                getattr(outcome, name).append(run)
    outcome.prices.extend(price_rows(study, images))
    return outcome


def price_rows(study: Study, images: int | None) -> Iterator[dict[str, Any]]:
    """The price of every method and ensemble at every moment, and of A; `images` are those of an epoch, if known."""
    names = dict.fromkeys([*study.trained, *study.compared])
    steps = steps_of_epoch(study, images)
    given = study.given or {}
    for values in grid_points(study.axes):
        recipe = at_point(study.recipe, values)
        axes = {"axes": ",".join(axes_text(values))} if values else {}
        yield {**axes, "method": OF_A, "rewind": None, **_price(price_of_a(recipe), "a" in given, "mask" in given)}
        for rewind in recipe.rewinds:
            for name in names:
                price = price_of(name, rewind, recipe, study.matchers, steps)
                needs_b = price is None or price.dense > 0
                yield {**axes, "method": name, "rewind": rewind, **_price(price, needs_b and "b" in given)}


def _price(price: Price | None, dense_is_given: bool, mask_is_given: bool = False) -> dict[str, float | None]:
    dense, pruning, sparse = price if price is not None else (None, None, None)
    return {
        **{"dense": None if dense_is_given else dense, "pruning": None if mask_is_given else pruning},
        "sparse": sparse,
    }


def _is_finite(result: Mapping[str, Any]) -> bool:
    """Whether the test metrics and curves of a stage are numbers: null stands for what is not, and once NaN did."""
    measured = [value for name, value in result.items() if name.startswith("test/")]
    for curve in result.get("curves", ()):
        measured += [*curve["loss"], curve["loss_barrier"]]
        measured += [] if curve["error"] is None else [*curve["error"], curve["error_barrier"]]
    return all(value is not None and math.isfinite(value) for value in measured)
