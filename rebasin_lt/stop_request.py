"""SIGUSR1 and SIGTERM as a request to stop, which a run grants where nothing is lost."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
"""What SLURM sends before the time is up (as the templates ask), and what it and others send to preempt."""


class StopRequest:
    """In a `with` block, the two signals are noted and do nothing else; nested blocks are one.

    Further signals change nothing: a job's processes are often told by several senders. Only the main thread of a
    process can listen; in another one the block does nothing.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._depth = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if self._depth == 0 and threading.current_thread() is threading.main_thread():
            self.signal = None
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name


stop_request = StopRequest()
"""The one of this process: signal handlers are a process's own."""
