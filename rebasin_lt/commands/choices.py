"""Options that take a name out of a table: `--help` lists the names that there are."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping

from rebasin_lt.connectivity.corrections import CORRECTIONS
from rebasin_lt.experiment.controls import CONTROLS
from rebasin_lt.experiment.methods import control_methods, fixed_methods
from rebasin_lt.matching.methods import MATCHING_METHODS
from rebasin_lt.matching.objectives import OBJECTIVES, PRESETS

CHOICES: Mapping[str, Mapping[str, Callable[[], Iterable[str]]]] = {
    "permute": {
        "method": lambda: MATCHING_METHODS,
        "objective": lambda: OBJECTIVES,
        "preset": lambda: PRESETS,
    },
    "barrier": {"corrections": lambda: CORRECTIONS},
    "control": {"kind": lambda: CONTROLS},
    "study": {"methods": lambda: [*fixed_methods(), *control_methods(), "package.module:name"]},
}
"""The tables by command and option; they are light, so that `--help` answers at once."""


def list_choices(command: str, parser: ArgumentParser) -> None:
    """Put the names that an option takes behind its description."""
    choices = CHOICES.get(command, {})
    for action in parser._actions:
        if action.dest in choices:
            action.help = f"{action.help} ({', '.join(choices[action.dest]())})"
