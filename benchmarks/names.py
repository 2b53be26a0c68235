"""docs/names.md: every name that a command, a study or a report knows, out of the tables that make them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rebasin_lt.connectivity.corrections import CORRECTIONS
from rebasin_lt.experiment.before import BEFORE_TRAINING
from rebasin_lt.experiment.controls import CONTROLS
from rebasin_lt.experiment.methods import known_methods
from rebasin_lt.experiment.metrics import METRICS
from rebasin_lt.experiment.signed_methods import SIGNS
from rebasin_lt.judging.losses import LOSSES
from rebasin_lt.matching.methods import MATCHING_METHODS
from rebasin_lt.matching.objectives import OBJECTIVES, PRESETS
from rebasin_lt.pruning.criteria import CRITERIA

PAGE = Path(__file__).parents[1] / "docs" / "names.md"


class Family(NamedTuple):
    """A table of records, and how the page shows it."""

    title: str
    where: str  # its names are written, and its table lies
    records: Callable[[], Mapping[str, Any]]
    columns: Sequence[tuple[str, Callable[[Any], str]]]


_MEANING = ("meaning", lambda record: record.meaning)
FAMILIES = (
    Family(
        "Methods of matching",
        "`permute --method`, `method:` of a study's matcher; `matching/methods.py`; or your own, "
        "[`package.module:name`](extending.md#a-method-of-matching)",
        lambda: MATCHING_METHODS,
        (_MEANING, ("looks at images", lambda record: "yes" if record.needs_images else "no")),
    ),
    Family(
        "Objectives of activation matching",
        "`permute --objective`, `objective:` of a matcher; `matching/objectives.py`",
        lambda: OBJECTIVES,
        (_MEANING, ("reported as", lambda record: record.measure)),
    ),
    Family(
        "Presets of activation matching",
        "`permute --preset`, `preset:` of a matcher; `matching/objectives.py`",
        lambda: PRESETS,
        (_MEANING, ("reported as", lambda record: record.measure)),
    ),
    Family(
        "Corrections",
        "`barrier --corrections`, `corrections:` of a study's barrier; `connectivity/corrections.py`",
        lambda: CORRECTIONS,
        (("label", lambda record: record.label), _MEANING, ("of networks", lambda record: _networks(record.applies))),
    ),
    Family(
        "Losses",
        "`--loss` of `barrier`, `landscape`, `permute` and `diversity`, `loss=` in Python; `judging/losses.py`; or "
        "your own, [`package.module:name` or `validation_step:NAME`](extending.md#a-loss-to-judge-by)",
        lambda: LOSSES,
        (
            _MEANING,
            ("mean over", lambda record: record.mean_over),
            ("unit", lambda record: record.unit or "–"),
            ("error", lambda record: record.error or "none"),
        ),
    ),
    Family(
        "Control masks",
        "`control --kind`; `experiment/controls.py`; or your own, [`package.module:name`](extending.md#a-control)",
        lambda: CONTROLS,
        (
            ("needs", lambda record: ", ".join(f"`{name}`" for name in record.needs) or "an amount"),
            ("uses", lambda record: ", ".join(f"`{name}`" for name in record.uses)),
        ),
    ),
    Family(
        "Methods of a study",
        "`methods:` of a study; `experiment/methods.py`, those under a control mask `experiment/controls.py`. "
        "`permuted` stands for the study's matchers, whatever they are called",
        known_methods,
        (("label", lambda record: record.label), _MEANING),
    ),
    Family(
        "Signs of a study's methods",
        "`METHOD+mask`, `METHOD+own@MOMENT` or `METHOD+own` in `methods:` of a study; `experiment/signed_methods.py`",
        lambda: SIGNS,
        (("label", lambda record: f"… + {record.label}"), _MEANING),
    ),
    Family(
        "Pruning criteria",
        "`criterion` of `IterativeMagnitudePruning`, and of a recipe's `imp`; `pruning/criteria.py`; or your own, "
        "[`package.module:name`](extending.md#a-pruning-criterion)",
        lambda: CRITERIA,
        (_MEANING, ("looks at images", lambda record: "yes" if record.needs_batches else "no")),
    ),
    Family(
        "Numbers that are known before training",
        "`before_training` in `result.json` of `permute` and `mask`, columns of a study's `overlap.csv`, and its "
        "section *Before training*; `experiment/before.py`",
        lambda: BEFORE_TRAINING,
        (("label", lambda record: record.label), _MEANING, ("by chance", lambda record: _chance(record.chance))),
    ),
    Family(
        "Metrics of a run",
        "`test/NAME` in `result.json` and `metrics.jsonl`, a column of `accuracy.csv`, a section of a report; "
        "`experiment/metrics.py`",
        lambda: METRICS,
        (
            ("label", lambda record: record.label),
            ("unit", lambda record: record.unit or "–"),
            ("better", lambda record: record.better),
        ),
    ),
)


def page() -> str:
    """The page as Markdown."""
    parts = [
        "# Names, and what they mean",
        "Every family of names is one table in the package, and this page is made from those tables by `python -m "
        "benchmarks.names`: who adds a record runs it. Commands, studies, plans and reports read the same tables, and "
        "refuse a name that is not in one with the near one.",
    ]
    for family in FAMILIES:
        parts += [f"## {family.title}", f"{family.where}.", _table(family)]
    return "\n\n".join(parts) + "\n"


def _table(family: Family) -> str:
    titles = ["name", *(title for title, _ in family.columns)]
    rows = [[f"`{name}`", *(cell(record) for _, cell in family.columns)] for name, record in family.records().items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [titles, ["---"] * len(titles), *rows])


def _chance(chance: str | float | None) -> str:
    return "–" if chance is None else f"`{chance}`" if isinstance(chance, str) else f"{chance:g}"


def _networks(applies: Callable[[bool], bool]) -> str:
    found = (applies(True), applies(False))
    return {(True, True): "all", (True, False): "with batch norm", (False, True): "without"}.get(found, "none")


def main(args: Sequence[str] | None = None) -> None:
    """Write the page."""
    argparse.ArgumentParser(prog="python -m benchmarks.names", description=__doc__).parse_args(args)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
