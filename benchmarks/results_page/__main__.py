"""docs/results.md, its figures, and the README's headline: made from the numbers in docs/results, and nothing else.

    python -m benchmarks.results_page [--collect runs/results] [--ledger]

`--collect` first takes the numbers of whole pairs from the folders of studies, and keeps those of other pairs that were
taken before: `rebasin-lt study --config results/NAME.yaml --seeds '[3]'` is one pair of one. `--ledger` asks what the
studies that were not run would cost on this machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks._page import DOCS
from benchmarks.results_page.collect import collect_numbers, write_not_run
from benchmarks.results_page.page import write_page


def main(arguments: Sequence[str] | None = None) -> None:
    """Take new numbers if asked to, then write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results_page", description=__doc__.splitlines()[0])
    parser.add_argument("--collect", type=Path, metavar="RUNS", help="folder of studies, to take whole pairs from")
    parser.add_argument("--ledger", action="store_true", help="ask what the studies that were not run would cost here")
    given = parser.parse_args(arguments)
    if given.collect:
        for name in collect_numbers(given.collect, DOCS / "results"):
            print(f"took the numbers of {name}")
    if given.ledger:
        write_not_run(DOCS / "results" / "not_run.csv")
    for path in write_page(DOCS):
        print(path)


if __name__ == "__main__":
    main()
