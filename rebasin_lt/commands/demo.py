"""`rebasin-lt demo`: the paper's whole experiment on real digits, offline, on a CPU."""

from __future__ import annotations


def demo(out: str = "demo", seeds: int = 3, config: str | None = None) -> None:
    """Run the whole experiment on digits: train A and B, prune A, match, train sparse, and report. A minute or two.

    Args:
        out: folder for the runs and report.html
        seeds: paired repetitions
        config: unused
    """
