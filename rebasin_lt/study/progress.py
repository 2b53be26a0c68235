"""What a study tells people while its stages run: on a terminal a table that changes in place, in a file some lines."""

from __future__ import annotations

import math
import sys
import threading
import time
from pathlib import Path
from typing import Self

from rebasin_lt.process.progress_line import StatusTable, time_left
from rebasin_lt.process.terminal_text import say
from rebasin_lt.study.state import State
from rebasin_lt.study.status import seconds_left, status_lines

_LINES = 25  # at equal steps of the stages that there are to do
_PATIENCE = 10.0  # seconds that checks may take before a line says so: most refusals stay one line by themselves
_SILENCE = 600.0  # seconds after which the next stage is told of, whichever it is


class StudyProgress:
    """Tells on standard error how a study stands, from before its settings are checked; use it in a `with` block.

    On a terminal it is a table. Elsewhere, as in a log file: a line where checks take long, one when the first stages
    begin, and one after each stage or, of many stages, twenty-five at equal steps, and one after ten minutes without
    any.

    Args:
        title: the study's
        folder: where it is, which every line begins with
        state: how the study stands; launchers change it
    """

    def __init__(self, title: str, folder: Path, state: State) -> None:
        self.title, self.folder, self.state = title, folder, state
        self._table = StatusTable()
        there = f", {len(state.done)} of them complete" if state.done else ""
        self._what = f"{title}: {len(state.plan)} stages{there}"
        self._checking = f"{self._what}; settings and data are checked first"
        self._late = threading.Timer(_PATIENCE, self._say, [self._checking])
        self._late.daemon = True
        self._began = self._told = time.monotonic()
        self._before = self._known = frozenset(state.done)
        self._step = max(1, math.ceil((len(state.plan) - len(state.done)) / _LINES))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._late.cancel()
        self._table.clear()

    def checks(self) -> None:
        """Say that settings and data are looked at, which takes as long as reading them: in a file if it takes long."""
        self._table([self._checking])
        self._late.start()

    def runs(self, count: int, launcher: str) -> None:
        """Say what there is to do, that stages begin, `count` at a time, and where what they print lies."""
        self._late.cancel()
        logs = f"what stages print is in {self.folder / 'logs'}"
        self._say(f"{self._what}, {count} at a time (--launcher {launcher}); {logs}")

    def show(self, count: int) -> None:
        """How the study stands now, `count` stages at a time; called as often as anything may have changed."""
        if self._table.is_shown():
            self._table(status_lines(self.title, self.state, count))
            return
        ended = frozenset({*self.state.done, *self.state.failed})
        if ended != self._known and self._is_due(len(ended - self._before)):
            self._say(self._line(count, ended - self._known))
            self._told = time.monotonic()
        self._known = ended

    def _is_due(self, ended: int) -> bool:
        late = time.monotonic() - self._told >= _SILENCE
        known = len(self._known - self._before)
        return late or self.state.is_over or ended // self._step > known // self._step

    def _line(self, count: int, new: frozenset[str]) -> str:
        """`12/51 stages after 1:03, about 2:10 left, 1 failed: seed=1/imp took 0:07`."""
        state = self.state
        text = f"{len(state.done)}/{len(state.plan)} stages after {time_left(time.monotonic() - self._began)}"
        seconds = seconds_left(state, count)
        if seconds is not None and not state.is_over:
            text += f", about {time_left(seconds)} left"
        text += f", {len(state.failed)} failed" if state.failed else ""
        last = [path for path in state.plan if path in new][-1]
        if last in state.failed:
            return f"{text}: {last} failed: {state.failed[last]}"
        took = f" took {time_left(state.seconds[last])}" if last in state.seconds else " is done"
        return f"{text}: {last}{took}"

    def _say(self, text: str) -> None:
        if not self._table.is_shown():
            say(f"{self.folder}: {text}", file=sys.stderr)
            sys.stderr.flush()
