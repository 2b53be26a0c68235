"""What a run's folder holds beside networks: metrics, facts of its beginning, evaluations of its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.storage.files import finite, json_in, write_json
from rebasin_lt.storage.run_folder import CONFIG

METRICS_FILE, FACTS_FILE, EVALUATIONS_FILE = "metrics.jsonl", "run.json", "evaluations.json"
NOT_FINITE = "not_finite"
"""Key of a row's metrics that were NaN or infinite, with what they were: JSON knows no such numbers."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file, none if there is no file; a last line cut off by a crash is left out.

    Raises BrokenFileError, naming the line, for anything else that is no row.
    """
    if not path.exists():
        return []
    if not path.is_file():
        raise BrokenFileError(f"{path} is not a regular file: remove it")
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def read_facts(folder: Path) -> dict[str, Any]:
    """Those in the run's folder, as JSON has them; none where there are none, or what there is cannot be read."""
    found = json_in(folder / FACTS_FILE)
    return found if isinstance(found, dict) else {}


def record_evaluation(folder: Path, verb: str, checkpoint: Path, step: int, metrics: Mapping[str, float]) -> bool:
    """Keep the metrics by verb and by the checkpoint's place in the folder; `step` is that of its weights.

    Nothing is kept, and False returned, of a checkpoint that lies elsewhere, and in a folder that is no run's.
    """
    place = checkpoint.resolve()
    if not (folder / CONFIG).is_file() or not place.is_relative_to(folder.resolve()):
        return False
    found = read_evaluations(folder)
    name = place.relative_to(folder.resolve()).as_posix()
    found.setdefault(verb, {})[name] = finite({"step": step, **metrics})
    write_json(folder / EVALUATIONS_FILE, found)
    return True


def read_evaluations(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Metrics by verb and checkpoint; none where nothing was evaluated. Raises BrokenFileError for another file."""
    path = folder / EVALUATIONS_FILE
    if not path.exists():
        return {}
    found = json_in(path)
    of_runs = isinstance(found, dict) and all(isinstance(each, dict) for each in found.values())
    if not of_runs or not all(isinstance(row, dict) for each in found.values() for row in each.values()):
        raise BrokenFileError(f"{path} holds no evaluations by verb and checkpoint: remove it, and test again")
    return found  # type: ignore[no-any-return]


def _row(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(f"{place} is not readable JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
        raise BrokenFileError(f"{place} is no row of metrics: it has no epoch")
    return row
