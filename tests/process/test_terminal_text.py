"""What reaches a terminal holds nothing that a terminal obeys."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest

import rebasin_lt
from rebasin_lt.process.progress_line import ProgressLine, StatusTable
from rebasin_lt.process.terminal_text import on_terminal, say

HOSTILE = "a\x1b[2J\x1b]0;owned\x07\x9b1m\r\x08\u202e\u2066b"
PACKAGE = Path(rebasin_lt.__file__).parent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def obeyed(text: str) -> list[str]:
    return [character for character in text if not character.isprintable() and character not in "\n\t"]


def test_text_stays_and_what_is_obeyed_does_not(capsys) -> None:
    plain = "é − ± │ 网络\tπ(A)\nnext 🙂"
    assert on_terminal(plain) == plain
    assert on_terminal(HOSTILE) == "a?[2J?]0;owned??1m????b"
    say(HOSTILE)
    assert capsys.readouterr().out == on_terminal(HOSTILE) + "\n"


def test_lines_that_change_in_place_write_their_own_sequences_only(monkeypatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with ProgressLine(HOSTILE) as line:
        line(HOSTILE, 1, 2)
    with StatusTable() as table:
        table([HOSTILE])
    left = terminal.getvalue().replace("\r\x1b[2K", "").replace("\x1b[1A\x1b[J", "")
    assert left.count(on_terminal(HOSTILE)) == 3
    assert obeyed(left) == []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_printed_past_it(path) -> None:
    """Not by `print`, nor by writing to a standard stream."""
    if path.name in {"terminal_text.py", "progress_line.py"}:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "sys.stdout.write", "sys.stderr.write"}, f"line {node.lineno}: {called}"
