"""SIGUSR1 and SIGTERM as a request to stop, which a run grants where nothing is lost."""

from __future__ import annotations

import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
"""What SLURM sends before the time is up (as the templates ask), and what it and others send to preempt."""


class Stopped(BaseException):
    """A command that has nothing to finish first was told to stop. No library takes it for an error of its own."""


class StopRequest:
    """In a `with` block, the two signals are noted and do nothing else; nested blocks are one.

    Further signals change nothing: a job's processes are often told by several senders. Only the main thread of a
    process can listen; in another one the block does nothing. A process that is ours holds the signals from its first
    import to its end, for what Python does before and after a block takes seconds, and a signal would kill it then.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._depth = 0
        self._before: dict[int, object] = {}
        self._held = self._at_once = False

    def __enter__(self) -> StopRequest:
        if self._depth == 0 and not self._held and threading.current_thread() is threading.main_thread():
            self.signal = None
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            self._before = {}

    def hold(self) -> None:
        """Note the signals from now on, in blocks and outside of them."""
        if not self._held:
            self._held = True
            for number in SIGNALS:
                signal.signal(number, self._note)

    def stop_at_once(self) -> None:
        """Raise Stopped as soon as a signal that is held comes outside of blocks, or if one has come."""
        self._at_once = self._held
        if self._at_once and self.signal is not None:
            raise Stopped(f"stopped by {self.signal}")

    def ignore(self) -> None:
        """Let the signals do nothing any more: the process ends, with the exit code that it has.

        Python takes handlers away before it has ended, but leaves it at that where a signal is ignored.
        """
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name
        if self._at_once and self._depth == 0:
            raise Stopped(f"stopped by {self.signal}")


stop_request = StopRequest()
"""The one of this process: signal handlers are a process's own."""
