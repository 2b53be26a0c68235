"""What a terminal's standard error shows of long work: a line with the time left, or a few, that change in place.

Silent where standard error is no terminal.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import Self

from rebasin_lt.process.terminal_text import on_terminal


class _InPlace:
    """Lines that are drawn over the last ones, at most five times a second; use it in a `with` block.

    They are cut at the terminal's width, and removed at the end.
    """

    def __init__(self) -> None:
        self._drawn, self._shown = 0, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def is_shown(self) -> bool:
        """Whether there is a terminal to draw on; what only the lines need must not be computed for nothing."""
        return sys.stderr.isatty()

    def is_due(self) -> bool:
        """Whether there is a terminal, and it was not drawn on just now."""
        return self.is_shown() and time.monotonic() - self._shown >= 0.2

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines in place of those that are there."""
        self.clear()
        width = max(20, shutil.get_terminal_size().columns - 1)
        sys.stderr.write("".join(on_terminal(line)[:width] + "\n" for line in lines))
        sys.stderr.flush()
        self._drawn, self._shown = len(lines), time.monotonic()

    def clear(self) -> None:
        """Remove the lines that are there."""
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}A\x1b[J")
            sys.stderr.flush()
            self._drawn = 0


class StatusTable(_InPlace):
    """Call it with the lines to show."""

    def __call__(self, lines: Sequence[str]) -> None:
        if self.is_due():
            self.draw(lines)


class ProgressLine(_InPlace):
    """Call it with what is being done, how much is done and how much there is. The clock starts anew with `what`."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self._what, self._began, self._first = "", 0.0, 0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._first = what, now, done
        if self.is_due():
            pace = (now - self._began) / max(1, done - self._first)
            self.draw([f"{self.title}: {what} {done}/{total}, {time_left(pace * (total - done))} left"])


def time_left(seconds: float) -> str:
    """`0:07`, `12:30`, `3:02:01`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
