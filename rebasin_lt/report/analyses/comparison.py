"""Runs side by side: in which settings they differ, and what was measured of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rebasin_lt.errors import InputError
from rebasin_lt.judging.chance import collapse_text, collapsed_metric
from rebasin_lt.report.kit.tables import Cell, Column, Table, texts
from rebasin_lt.settings.flat import flat_settings
from rebasin_lt.storage.run_folder import CONFIG, finished, read_config
from rebasin_lt.storage.run_records import METRICS_FILE, read_evaluations, read_facts, read_rows

_PLACES = ("trainer.default_root_dir", "trainer.logger", "rebasin_lt_version")
"""Settings that say where a run lies; with those below them."""
_STAGES = ("test", "val", "train")
"""What metrics are of, in the order in which they are shown; others come last."""
_NO_METRICS = ("epoch", "step", "not_finite")


@dataclass(frozen=True)
class RunRecord:
    """A run's folder, read: settings by dotted name, and the last value of each metric.

    Metrics of the test are those of `last.ckpt` as it is: of a run that went on after its test they are left out.
    """

    label: str
    place: Path
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    of_test: tuple[str, ...] = ()
    """Names of those that were measured by `test`, whatever a module calls them."""
    num_classes: int | None = None

    @property
    def title(self) -> str:
        """The label, with † where the accuracy is that of a constant answer."""
        return f"{self.label} †" if collapsed_metric(self.metrics, self.num_classes) else self.label

    @property
    def collapse(self) -> str | None:
        """What to do about a network that is no better than a constant answer; None where it is better."""
        return collapse_text(self.metrics, self.num_classes, str(self.place), "sparsity" in self.metrics)


def read_run(name: str) -> RunRecord:
    """The run in a folder, of `fit` or of a stage of a study; `LABEL=FOLDER` calls it so.

    Raises InputError for a folder that holds no run, and BrokenFileError for a file that cannot be read.
    """
    label, equals, place = name.partition("=")
    folder = Path(place if equals else name)
    if not (folder / CONFIG).is_file():
        raise InputError(f"runs names {folder}, which holds no {CONFIG}: expected the folder of a run, or LABEL=FOLDER")
    settings = flat_settings(read_config(folder / CONFIG), written=_as_in_a_file)
    kept = {key: value for key, value in settings.items() if not key.startswith(_PLACES)}
    metrics, of_test = _metrics(folder)
    return RunRecord(label if equals else str(folder), folder, kept, metrics, of_test, _classes(folder, settings))


def _classes(folder: Path, settings: Mapping[str, Any]) -> int | None:
    """As the run said when it began or, in one of earlier releases, as its settings name them."""
    named = [value for key, value in settings.items() if key.rpartition(".")[2] == "num_classes"]
    found = read_facts(folder).get("num_classes", named[0] if named else None)
    return found if isinstance(found, int) else None


def _metrics(folder: Path) -> tuple[dict[str, float], tuple[str, ...]]:
    """The last of each, in the order in which they are shown; and the names of the test's."""
    rows = read_rows(folder / METRICS_FILE)
    found: dict[str, Any] = {"sparsity": read_facts(folder).get("sparsity")}
    for row in rows:
        found |= {key: value for key, value in row.items() if key not in _NO_METRICS}
    found["sparsity"] = found.get("imp/sparsity", found["sparsity"])
    tested = read_evaluations(folder).get("test", {}).get("last.ckpt", {})
    of_test: dict[str, Any] = {}
    if tested and (not rows or tested.get("step") == rows[-1].get("step")):
        of_test = {key: value for key, value in tested.items() if key not in _NO_METRICS}
    of_test |= {key: value for key, value in (finished(folder) or {}).items() if key.startswith("test/")}
    numbers = {key: float(value) for key, value in (found | of_test).items() if isinstance(value, int | float)}
    shown = dict(sorted(numbers.items(), key=lambda item: (_stage_order(item[0]), item[0])))
    return shown, tuple(name for name in shown if name in of_test or name.startswith("test/"))


def differing(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the settings that not all runs have alike, in the order of the first that has them."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [name for name in names if len({repr(run.settings.get(name)) for run in runs}) > 1]


def settings_table(runs: Sequence[RunRecord]) -> Table:
    """A row for each setting in which the runs differ, a column for each run."""
    rows: list[list[Cell]] = [[name, *(_written(run.settings.get(name)) for run in runs)] for name in differing(runs)]
    return Table(texts("setting", *(run.label for run in runs)), rows, "Settings that differ")


def metrics_table(runs: Sequence[RunRecord], wanted: Sequence[str] = ()) -> Table:
    """A row for each run, a column for each metric: those `wanted`, or those of the test and the sparsity.

    Raises InputError for a metric that no run has.
    """
    known = list(dict.fromkeys(name for run in runs for name in run.metrics))
    for name in wanted:
        if name not in known:
            raise InputError(f"metrics names {name}, which no run has: expected some of {', '.join(known) or 'none'}")
    of_test = [name for name in known if any(name in run.of_test for run in runs)]
    shown = wanted or ([name for name in known if name == "sparsity"] + of_test if of_test else known)
    caption = "Metrics" if wanted else "Metrics of the test" if of_test else "Metrics of the last epoch"
    columns = [*texts("run"), *(Column(name, decimals=_decimals(name)) for name in shown)]
    if any(run.title != run.label for run in runs):
        caption += "; † no better than a constant answer"
    rows: list[list[Cell]] = [[run.title, *(run.metrics.get(name) for name in shown)] for run in runs]
    return Table(columns, rows, caption)


def runs_side_by_side(runs: Sequence[RunRecord]) -> Table:
    """Everything in one table, for spreadsheets: a row for each run, what differs, and all metrics."""
    names, metrics = differing(runs), dict.fromkeys(name for run in runs for name in run.metrics)
    rows: list[list[Cell]] = [
        [run.label, *(_written(run.settings.get(name)) for name in names), *(run.metrics.get(one) for one in metrics)]
        for run in runs
    ]
    return Table([*texts("run", *names), *map(Column, metrics)], rows)


def comparison_text(runs: Sequence[RunRecord], form: str, wanted: Sequence[str] = ()) -> str:
    """The comparison in one of `FORMATS`."""
    if form == "csv":
        return runs_side_by_side(runs).to_csv()
    tables = [table for table in (settings_table(runs), metrics_table(runs, wanted)) if table.rows]
    return "\n".join(FORMATS[form](table) for table in tables)


def untested(runs: Sequence[RunRecord]) -> list[Path]:
    """Folders of the runs without a number of the test, where others have one."""
    tested = [bool(run.of_test) for run in runs]
    return [run.place for run, has in zip(runs, tested, strict=True) if not has] if any(tested) else []


FORMATS: Mapping[str, Callable[[Table], str]] = {
    "text": Table.to_text,
    "csv": Table.to_csv,
    "markdown": Table.to_markdown,
    "latex": Table.to_latex,
}
"""How tables are written, by name."""


def _written(value: object) -> Cell:
    return value if value is None or isinstance(value, str) else _as_in_a_file(value)


def _as_in_a_file(value: object) -> str:
    """A setting as one writes it in a YAML file: `[0it, 2ep]`, `true`.

    >>> _as_in_a_file(["0it", "2ep"]), _as_in_a_file(True), _as_in_a_file(0.05), _as_in_a_file([])
    ('[0it, 2ep]', 'true', '0.05', '[]')
    """
    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _stage_order(metric: str) -> int:
    if metric == "sparsity":
        return -1
    stage = metric.partition("/")[0]
    return _STAGES.index(stage) if stage in _STAGES else len(_STAGES)


def _decimals(metric: str) -> int:
    return 2 if metric.rpartition("/")[2].startswith("top") else 4
