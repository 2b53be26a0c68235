"""How commits spell what the trajectories ask for: the one place to write down that something was renamed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SPELLINGS: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("permute", "mask"): ("masks",),
    ("permute", "alphas"): ("num_alphas",),
    ("barrier", "mask"): ("masks",),
    ("barrier", "alphas"): ("num_alphas",),
    ("barrier", "split"): ("splits",),
    ("barrier", "test"): (["test"],),
    ("landscape", "points"): ("num_points",),
    ("control", "n_images"): ("num_images",),
    ("study", "num_alphas"): ("alphas",),
    ("mask", "other"): ("others",),
    ("diversity", "ckpts"): ("checkpoints",),
}
"""By command and word as the trajectories write it: what it is called on other commits.

A word is the name of a command or an option, a key in YAML, a class or a choice. Whoever renames one adds a line.
"""

RESULTS: Mapping[str, str] = {}
"""Names of files, keys and columns that results are read from: what an old commit called one, and its name now."""


class Dialect:
    """The words of one commit, learnt from what it refuses."""

    def __init__(self, spellings: Mapping[tuple[str, str], tuple[Any, ...]] = SPELLINGS) -> None:
        self._left = {(command, word): [word, *others] for (command, word), others in spellings.items()}

    def spell(self, command: str, value: Any) -> Any:
        """The value with every word of the command as this commit spells it."""
        if isinstance(value, Mapping):
            return {self.spell(command, key): self.spell(command, inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.spell(command, inner) for inner in value]
        known = self._left.get((command, value)) if isinstance(value, str) else None
        return known[0] if known else value

    def learn(self, command: str, refusal: str) -> bool:
        """Turn to the next spelling of the words that a refusal of the command names; False where there is none."""
        refused = [
            known
            for (of, _), known in self._left.items()
            if of == command and len(known) > 1 and re.search(rf"(?<!\w){re.escape(known[0])}(?!\w)", refusal)
        ]
        for known in refused:
            known.pop(0)
        return bool(refused)
