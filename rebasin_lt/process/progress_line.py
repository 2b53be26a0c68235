"""One line of progress with the time left, on a terminal's standard error; silent elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rebasin_lt.process.terminal_text import on_terminal


class ProgressLine:
    """Call it with what is being done, how much is done and how much there is; use it in a `with` block.

    It redraws at most five times a second, only where standard error is a terminal, and clears its line at the end.
    The clock starts anew when `what` changes.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._what, self._began, self._first, self._shown = "", 0.0, 0, 0.0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._first = what, now, done
        if not self.is_shown() or now - self._shown < 0.2:
            return
        self._shown = now
        pace = (now - self._began) / max(1, done - self._first)
        line = on_terminal(f"{self.title}: {what} {done}/{total}, {time_left(pace * (total - done))} left")
        sys.stderr.write(f"\r\x1b[2K{line}")
        sys.stderr.flush()

    def is_shown(self) -> bool:
        """Whether there is a terminal to draw on; what only the line needs must not be computed for nothing."""
        return sys.stderr.isatty()

    def clear(self) -> None:
        """Remove the line, if one was drawn."""
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = 0.0


def time_left(seconds: float) -> str:
    """`0:07`, `12:30`, `3:02:01`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
