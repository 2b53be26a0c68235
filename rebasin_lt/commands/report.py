"""`rebasin-lt report`: what a study found, complete or not."""

from __future__ import annotations

from pathlib import Path

from rebasin_lt.commands.options import ReportOptions
from rebasin_lt.errors import InputError
from rebasin_lt.process.terminal_text import say
from rebasin_lt.report.study.numbers import STUDY, read_numbers
from rebasin_lt.report.study.sections import summary, write_study_report
from rebasin_lt.storage.links import check_links
from rebasin_lt.storage.run_folder import CONFIG
from rebasin_lt.study.outcome import read_outcome


def print_report(options: ReportOptions) -> None:
    """Write the report of a study, and print what it says in short."""
    source = Path(options.dir)
    folder = source / "report" if options.out is None else Path(options.out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file, expected a folder for the report")
    if options.out is None:  # else the user's choice: every file lies in it itself, and replaces a link in its place
        check_links(source, ("report",))
    left = (source / STUDY).exists() and not (source / CONFIG).exists()  # a study may have its report inside it
    outcome = read_numbers(source) if left else read_outcome(source)
    page, markdown, *others = write_study_report(outcome, folder, options.formats)
    say(summary(outcome))
    say(f"report: {page}, {markdown} and {len(others)} files beside them")
