"""Golden trajectories: compare what small runs compute on a commit and in the working tree, bit by bit.

    python -m benchmarks.golden [COMMIT] [--only NAME ...] [--json FILE]
    python -m benchmarks.golden --write

The commit is checked out beside the working tree; both sides run the same small trajectories, one after the other, on
one thread, a minute or two each. Exit code 0 if every loss, accuracy, weight, mask and permutation is identical, 1 if
any is not. `--write` takes anew the curves that tests compare with, and measures how far rounding moves them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.golden.committed import GOLDEN, write_golden
from benchmarks.golden.comparison import compare, table
from benchmarks.golden.sides import ROOT, GoldenError, checkout, compute, name_of
from benchmarks.golden.trajectories import TRAJECTORIES, chosen


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, or write; exits with 1 where anything differs, with 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.golden", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commit", nargs="?", default="HEAD", help="what to compare the working tree with; HEAD")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="trajectories; those they need run too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all differences")
    parser.add_argument("--write", action="store_true", help=f"write {GOLDEN.relative_to(ROOT)} anew")
    given = parser.parse_args(arguments)
    names = [trajectory.name for trajectory in TRAJECTORIES]
    for name in given.only:
        if name not in names:
            parser.error(f"trajectory {name!r} is not known, expected {', '.join(names)}")
    if given.write and given.only:
        parser.error("--write takes all trajectories: leave --only out")
    try:
        same = _write() if given.write else _compare(given.commit, given.only, given.json)
    except GoldenError as error:
        parser.error(str(error))
    if not same:
        sys.exit(1)


def _compare(commit: str, only: Sequence[str], out: Path | None) -> bool:
    """Print the table, write the JSON, and return whether both sides are identical."""
    name, trajectories = name_of(commit), chosen(only)
    with checkout(name) as place:
        before = compute(place, trajectories, tell=lambda what: _tell(f"{name}: {what}"))
    after = compute(ROOT, trajectories, tell=lambda what: _tell(f"working tree: {what}"))
    verdicts = compare(before, after)
    same = not any(verdict.differences for verdict in verdicts)
    print(f"{name} -> working tree\n\n{table(verdicts)}\n\n{'identical' if same else 'NOT identical'}")
    if out:
        content = {"commit": name, "identical": same, "trajectories": [verdict.primitives() for verdict in verdicts]}
        out.write_text(json.dumps(content, indent=2) + "\n")
    return same


def _write() -> bool:
    write_golden(GOLDEN, _tell)
    print(GOLDEN)
    return True


def _tell(what: str) -> None:
    print(what, file=sys.stderr)


if __name__ == "__main__":
    main()
