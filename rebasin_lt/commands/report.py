"""`rebasin-lt report`: what a study found, complete or not."""

from __future__ import annotations

from rebasin_lt.process.terminal_text import say


def report(dir: str, out: str | None = None) -> None:
    """Write tables, figures and one page of what there is of a study, the paper's numbers beside ours.

    A study that still runs is not disturbed; what it lacks is written as –.

    Args:
        dir: folder of the study; or of the numbers that a report left, to write it again
        out: folder for the report; DIR/report if not given
    """
    from pathlib import Path

    from rebasin_lt.errors import InputError
    from rebasin_lt.report.study.numbers import STUDY, read_numbers
    from rebasin_lt.report.study.sections import summary, write_study_report
    from rebasin_lt.storage.links import check_links
    from rebasin_lt.storage.run_folder import CONFIG
    from rebasin_lt.study.outcome import collect

    folder = Path(dir) / "report" if out is None else Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file, expected a folder for the report")
    if out is None:  # else the user's own choice: every file lies in it itself, and replaces a link in its place
        check_links(Path(dir), ("report",))
    left = (Path(dir) / STUDY).exists() and not (Path(dir) / CONFIG).exists()  # a study may have its report inside it
    outcome = read_numbers(Path(dir)) if left else collect(Path(dir))
    page, markdown, *others = write_study_report(outcome, folder)
    say(summary(outcome))
    say(f"report: {page}, {markdown} and {len(others)} files beside them")
