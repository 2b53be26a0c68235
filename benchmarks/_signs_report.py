"""The tables and figures of `benchmarks.signs`, from its results."""

from pathlib import Path


def write_report(results: Path) -> None:
    """Put the tables between their markers in docs/signs.md."""
