"""Text for terminals: names come out of files, and a terminal obeys some characters."""

from __future__ import annotations

import sys
from typing import TextIO


def on_terminal(text: str) -> str:
    """The text with `?` for every character that would move a cursor, change a colour or the direction of writing.

    Line breaks and tabs stay.
    """
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)


def say(text: object, end: str = "\n", file: TextIO | None = None) -> None:
    """Print for people, to standard output if no other file is given; everything that commands print comes here."""
    print(on_terminal(str(text)), end=end, file=file or sys.stdout)
