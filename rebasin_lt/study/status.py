"""How a study stands, in lines: per kind of stage what is done, running, failed and waiting, and the time left."""

from __future__ import annotations

import time

from rebasin_lt.process.progress_line import time_left
from rebasin_lt.study.plan import KINDS
from rebasin_lt.study.stage import Stage
from rebasin_lt.study.state import State

_HEAD = ("", "stages", "done", "running", "failed", "waiting")


def status_lines(title: str, state: State, workers: int) -> list[str]:
    """A table of counts, then what is running and for how long."""
    rows = [_HEAD, *(row for kind in KINDS if (row := _row(kind, state)))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [f"{title}: {_progress(state, workers)}"]
    lines += ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    now = time.monotonic()
    lines += [f"{time_left(now - since):>8}  {path}" for path, since in state.running.items()]
    return lines


def _row(kind: str, state: State) -> tuple[str, ...] | None:
    of_kind = [path for path, stage in state.plan.items() if stage.kind == kind]
    if not of_kind:
        return None
    counts = [sum(path in group for path in of_kind) for group in (state.done, state.running, state.failed)]
    return (kind, *map(str, (len(of_kind), *counts, len(of_kind) - sum(counts))))


def _progress(state: State, workers: int) -> str:
    count = f"{len(state.done)} of {len(state.plan)} stages"
    seconds = seconds_left(state, workers)
    return count if seconds is None else f"{count}, about {time_left(seconds)} left"


def seconds_left(state: State, workers: int) -> float | None:
    """From what stages of each kind took here, per epoch and width where they train; None while too little is known."""
    known: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for path, seconds in state.seconds.items():
        stage = state.plan[path]
        known.setdefault((stage.kind, stage.width), []).append((seconds, _size(stage)))
    rates = {key: sum(seconds for seconds, _ in own) / sum(size for _, size in own) for key, own in known.items()}
    left = 0.0
    for path, stage in state.plan.items():
        if path in state.done or path in state.failed:
            continue
        rate = rates.get((stage.kind, stage.width))
        if rate is None:
            return None
        left += _size(stage) * rate
    now = time.monotonic()
    left -= sum(now - since for since in state.running.values())
    return max(0.0, left) / workers


def _size(stage: Stage) -> float:
    return max(1, stage.epochs)
