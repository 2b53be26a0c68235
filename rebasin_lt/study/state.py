"""Where the stages of a study are: done, running, failed, or waiting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rebasin_lt.study.record import Fingerprints, Standing, standing
from rebasin_lt.study.stage import Stage


@dataclass
class State:
    """By the paths of stages."""

    plan: Mapping[str, Stage]
    done: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)  # since when, monotonic seconds
    failed: dict[str, str] = field(default_factory=dict)  # why
    seconds: dict[str, float] = field(default_factory=dict)  # that stages took

    @classmethod
    def of(cls, plan: Mapping[str, Stage], folder: Path, unsaid: bool = False) -> State:
        """What is done in a folder, and nothing running. What needs something that is not done is not done either.

        With `unsaid`, results that do not say what they were made from, as those of earlier releases, count as well:
        for whoever only looks. Raises BrokenFileError for a result that cannot be read.
        """
        state, seen = cls(plan), Fingerprints()
        enough = {Standing.COMPLETE, Standing.UNSAID} if unsaid else {Standing.COMPLETE}
        for path, stage in plan.items():
            if all(need in state.done for need in stage.needs) and standing(folder, stage, seen) in enough:
                state.done.add(path)
        return state

    def ready(self) -> list[Stage]:
        """What can begin, in the order of the plan."""
        waiting = {*self.done, *self.running, *self.failed}
        return [
            stage
            for path, stage in self.plan.items()
            if path not in waiting and all(need in self.done for need in stage.needs)
        ]

    @property
    def blocked(self) -> list[str]:
        """What needs something that failed."""
        stuck = set(self.failed)
        for path, stage in self.plan.items():  # each comes after what it needs
            if path not in self.done and not stuck.isdisjoint(stage.needs):
                stuck.add(path)
        return [path for path in self.plan if path in stuck and path not in self.failed]

    @property
    def is_over(self) -> bool:
        return not self.running and not self.ready()
