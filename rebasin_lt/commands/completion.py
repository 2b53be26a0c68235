"""Shell completion: verbs, options, and what options choose from, as a script of shtab's."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from rebasin_lt.commands.table import COMMANDS
from rebasin_lt.errors import InputError
from rebasin_lt.process.terminal_text import say
from rebasin_lt.settings.config_files import shipped

_FIT = ("model", "data", "trainer.max_epochs", "trainer.default_root_dir", "trainer.callbacks", "ckpt_path")
_OF_LIGHTNING = (*_FIT, "seed_everything", "trainer.devices", "trainer.num_nodes", "trainer.logger", "global_batch")
"""Options of `fit` and its like that are worth completing: it has hundreds, which are LightningCLI's."""


def print_completion(shell: str, lightning: Mapping[str, str]) -> None:
    """Print the script for `shell`; `lightning` are the verbs that are LightningCLI's, and what they do.

    Raises InputError for another shell, and where shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise InputError('--print-completion needs shtab: pip install "rebasin-lt[completion]"') from error
    if shell not in shtab.SUPPORTED_SHELLS:
        raise InputError(f"--print-completion is {shell!r}, expected one of {', '.join(shtab.SUPPORTED_SHELLS)}")
    say(shtab.complete(completed_parser(lightning), shell=shell))


def completed_parser(lightning: Mapping[str, str]) -> argparse.ArgumentParser:
    """A parser of argparse's with everything that is completed."""
    parser = argparse.ArgumentParser(prog="rebasin-lt")
    verbs = parser.add_subparsers()
    for name, summary in lightning.items():
        verb = verbs.add_parser(name, help=_plain(summary))
        for option in _OF_LIGHTNING:
            verb.add_argument(f"--{option}")
        verb.add_argument("--quiet", action="store_true")
        verb.add_argument("--config", choices=shipped())
    for name, command in COMMANDS.items():
        verb = verbs.add_parser(name, help=_plain(command.summary))
        for option in command.types:
            verb.add_argument(f"--{option.replace('_', '-')}", choices=command.choices.get(option))
        verb.add_argument("--config", choices=shipped())
    return parser


def _plain(text: str) -> str:
    return text.replace("%", "%%").replace("`", "'")
