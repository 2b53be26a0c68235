"""A shell's completion knows every verb and option of the tables."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rebasin_lt.cli import LIGHTNING, main
from rebasin_lt.commands.completion import completed_parser, print_completion
from rebasin_lt.commands.table import COMMANDS
from rebasin_lt.errors import InputError


def test_every_verb_and_option_is_completed_with_what_it_chooses_from() -> None:
    parser = completed_parser(LIGHTNING)
    verbs = parser._subparsers._group_actions[0].choices
    assert set(verbs) == {*LIGHTNING, *COMMANDS}
    for name, command in COMMANDS.items():
        text = verbs[name].format_help()
        assert all(f"--{option.replace('_', '-')}" in text for option in command.types)
    corrections = next(action for action in verbs["barrier"]._actions if action.dest == "corrections")
    assert "repair" in corrections.choices
    assert "dense.yaml" in next(action for action in verbs["fit"]._actions if action.dest == "config").choices


def test_the_script_is_bash_that_bash_reads(capsys) -> None:
    pytest.importorskip("shtab")
    assert main(["--print-completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "--ckpt-a" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert main(["--print-completion=abacus"]) == 2
    assert "--print-completion is 'abacus', expected one of bash" in capsys.readouterr().err


def test_without_shtab_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(InputError, match="--print-completion needs shtab: pip install"):
        print_completion("bash", LIGHTNING)
