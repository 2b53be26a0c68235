"""What long work tells of how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told what is being done, how much of it is done, and how much there is; `ProgressLine` shows it."""

    def __call__(self, what: str, done: int, total: int, /) -> None: ...


def untold(what: str, done: int, total: int, /) -> None:
    """A `Progress` for whom nobody listens."""
