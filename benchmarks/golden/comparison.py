"""Two sides compared to the bit, and the table that says what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.golden.readings import FAILED, Readings


@dataclass(frozen=True)
class Difference:
    """A reading that is not the same, as the commit and as the working tree have it; None where it is missing."""

    name: str
    before: float | str | None
    after: float | str | None


@dataclass(frozen=True)
class Verdict:
    """What became of one trajectory: readings compared, those that differ, and those that only the working tree has."""

    trajectory: str
    compared: int
    differences: Sequence[Difference]
    new: Sequence[str] = ()

    def in_words(self) -> str:
        """`identical`, or the first difference with both values."""
        more = f"; {len(self.new)} are new, such as {self.new[0]}" if self.new else ""
        if not self.differences:
            return f"identical ({self.compared} readings){more}"
        first = self.differences[0]
        values = f"{_shown(first.before)} -> {_shown(first.after)}"
        return f"{len(self.differences)} of {self.compared} readings differ, first {first.name}: {values}{more}"

    def primitives(self) -> dict[str, Any]:
        """As the JSON file holds it."""
        return {"identical": not self.differences, **asdict(self)}


def compare(before: Mapping[str, Readings], after: Mapping[str, Readings]) -> list[Verdict]:
    """A verdict for each trajectory of `before`; both sides have the same trajectories.

    Numbers are equal if they are written alike to the last digit. A reading that the working tree has lost differs; one
    that it has besides is only mentioned, for it alters no result. A trajectory that failed is never identical.
    """
    return [_verdict(name, readings, after[name]) for name, readings in before.items()]


def table(verdicts: Sequence[Verdict]) -> str:
    """One line per trajectory."""
    width = max(len(verdict.trajectory) for verdict in verdicts)
    return "\n".join(f"{verdict.trajectory:<{width}} | {verdict.in_words()}" for verdict in verdicts)


def _verdict(trajectory: str, before: Readings, after: Readings) -> Verdict:
    if FAILED in before or FAILED in after:
        return Verdict(trajectory, 0, [Difference(FAILED, before.get(FAILED, "ran"), after.get(FAILED, "ran"))])
    pairs = [Difference(name, value, after.get(name)) for name, value in before.items()]
    different = [pair for pair in pairs if repr(pair.before) != repr(pair.after)]
    return Verdict(trajectory, len(pairs), different, [name for name in after if name not in before])


def _shown(value: float | str | None) -> str:
    return "missing" if value is None else str(value)
