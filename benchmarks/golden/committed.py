"""Curves that stand in the repository: what trajectories computed once, and how far rounding moves them.

Bits differ between kinds of CPU: other vector instructions sum in another order, and training enlarges the difference.
So tests compare within a tolerance that is measured with the curves: the trajectories run again as a CPU of other kinds
would compute them, and the largest difference is kept with them, for each trajectory and kind of number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._figures import RESULTS, machine
from benchmarks.golden.comparison import Difference
from benchmarks.golden.readings import FAILED, Readings
from benchmarks.golden.sides import ROOT, GoldenError, compute
from benchmarks.golden.trajectories import chosen

GOLDEN = RESULTS / "golden.json"

EMULATIONS: Mapping[str, Mapping[str, str]] = {
    "two threads": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
    "PyTorch without AVX": {"ATEN_CPU_CAPABILITY": "default"},
    "all without AVX": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
}
"""What makes this CPU sum in the order of others."""

FACTOR = 5
"""A tolerance, in the largest differences that were measured: a few emulations are not every CPU."""

LEAST = {"loss": 1e-3, "top1": 0.4, "share": 0.004, "objective": 1e-3}
"""A tolerance at least, by kind of number: of losses, relative (to 0.1 at least); of accuracies in percent and of
shares, one image of 297, or as few weights of a mask."""

_KINDS = {
    "loss": re.compile(r"\bloss(\.\w+)*$"),
    "top1": re.compile(r"\btop1$"),
    "share": re.compile(r"\b(error|member_accuracy|ensemble_accuracy)(\.\w+)*$|\bmasks\..*\.(un)?permuted$"),
    "objective": re.compile(r"result\.json objective\."),
}


def curves(readings: Readings) -> dict[str, float]:
    """The losses, accuracies, errors, overlaps and objectives among readings, but for what a report repeats."""
    return {
        name: float(value)
        for name, value in readings.items()
        if not isinstance(value, str) and kind(name) and "/report/" not in name
    }


def kind(name: str) -> str | None:
    """What a reading is, of those that curves hold."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.search(name)), None)


def spread(base: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By kind of number, the largest difference of any of the others; of losses, relative."""
    largest: dict[str, float] = {}
    for other in others:
        for name, value in base.items():
            what = str(kind(name))
            largest[what] = max(largest.get(what, 0.0), _distance(what, value, other[name]))
    return largest


def beyond(golden: Mapping[str, Any], trajectory: str, fresh: Mapping[str, float]) -> list[Difference]:
    """The numbers of a trajectory that differ from the committed ones by more than rounding, or are missing."""
    measured = golden["spread"][trajectory]
    found = []
    for name, value in golden["curves"][trajectory].items():
        what, now = str(kind(name)), fresh.get(name)
        if now is None or not _distance(what, value, now) <= tolerance(what, measured[what]):
            found.append(Difference(name, value, now))
    return found


def tolerance(what: str, measured: float) -> float:
    """How far a number of a kind may be from the committed one, by the largest difference that was measured."""
    return max(FACTOR * measured, LEAST[what])


def read_golden(path: Path = GOLDEN) -> dict[str, Any]:
    """The committed curves, their spread, and what they were measured on."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_golden(path: Path, tell: Callable[[str], None]) -> None:
    """Run everything here, and under every one of EMULATIONS, and write curves and spread.

    Raises GoldenError for a trajectory that fails.
    """
    sides = {name: _curves_under(name, rounding, tell) for name, rounding in {"here": {}, **EMULATIONS}.items()}
    base = sides.pop("here")
    content = {
        "made_by": "python -m benchmarks.golden --write",
        "about": {**machine("cpu"), "threads": 1},
        "emulations": EMULATIONS,
        "spread": {name: spread(values, [other[name] for other in sides.values()]) for name, values in base.items()},
        "curves": base,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _curves_under(name: str, rounding: Mapping[str, str], tell: Callable[[str], None]) -> dict[str, dict[str, float]]:
    found = compute(ROOT, chosen([]), rounding, lambda what: tell(f"{name}: {what}"))
    for trajectory, readings in found.items():
        if FAILED in readings:
            raise GoldenError(f"{trajectory}, {name}: {readings[FAILED]}")
    return {trajectory: numbers for trajectory, readings in found.items() if (numbers := curves(readings))}


def _distance(what: str, value: float, other: float) -> float:
    return abs(value - other) / (max(abs(value), 0.1) if what == "loss" else 1.0)
