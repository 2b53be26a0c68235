"""A few lines that stay in place while they change, on a terminal's standard error; silent elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rebasin_lt.process.terminal_text import on_terminal


class StatusTable:
    """Call it with the lines to show; use it in a `with` block. It redraws at most five times a second.

    Its lines are removed at the end, and cut at the terminal's width.
    """

    def __init__(self) -> None:
        self._drawn, self._shown = 0, 0.0

    def __enter__(self) -> StatusTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __call__(self, lines: Sequence[str]) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self._shown < 0.2:
            return
        self.clear()
        width = _width()
        sys.stderr.write("".join(on_terminal(line)[:width] + "\n" for line in lines))
        sys.stderr.flush()
        self._drawn, self._shown = len(lines), now

    def clear(self) -> None:
        """Remove the lines that are there."""
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}A\x1b[J")
            sys.stderr.flush()
            self._drawn = 0


def _width() -> int:
    import shutil

    return max(20, shutil.get_terminal_size().columns - 1)
