"""`rebasin-lt compare`: runs side by side."""

from __future__ import annotations

import shlex
import sys

from rebasin_lt.commands.options import CompareOptions
from rebasin_lt.errors import InputError
from rebasin_lt.process.terminal_text import say
from rebasin_lt.report.analyses.comparison import FORMATS, comparison_text, read_run, untested
from rebasin_lt.settings.choices import check_known
from rebasin_lt.storage.files import write_text
from rebasin_lt.storage.run_folder import CONFIG


def print_comparison(options: CompareOptions) -> None:
    """Print in which settings the runs differ and what was measured of each, or write it to a file."""
    check_known("--format", options.format, FORMATS)
    if len(options.runs) < 2:
        raise InputError(f"runs is {list(options.runs)}, expected at least two folders of runs to compare")
    runs = [read_run(name) for name in options.runs]
    text = comparison_text(runs, options.format, options.metrics)
    if options.out is None:
        say(text, end="")
    else:
        write_text(options.out, text)
        say(options.out)
    notes = [f"† {run.label}: {run.collapse}" for run in runs if run.collapse]
    notes += [
        f"{place} was not tested: rebasin-lt test --config {shlex.quote(str(place / CONFIG))}"
        for place in untested(runs)
    ]
    for note in notes:
        say(note, file=sys.stdout if options.format == "text" else sys.stderr)  # none within what a program reads
