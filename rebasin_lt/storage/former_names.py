"""What earlier releases called options, on the command line and in the files that they wrote."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

FORMER: Mapping[str, str] = {
    "alphas": "num_alphas",
    "ckpts": "checkpoints",
    "mask": "masks",
    "n_images": "num_images",
    "n_test_images": "num_test_images",
    "other": "others",
    "points": "num_points",
    "seeds": "num_seeds",
    "split": "splits",
}
"""The name of today for each. Some are names of today too, elsewhere: `mask` where there is one."""

_FORMER_GROUP = "matcher."
"""Options of `permute` that lay one level deeper in its `config.yaml`."""


def present_name(name: str, known: Collection[str]) -> str | None:
    """What an option is called that used to be `name`, if it is one of those `known` now; else None."""
    if name in known:
        return None
    candidates = (FORMER.get(name, name), name.removeprefix(_FORMER_GROUP))
    return next((candidate for candidate in candidates if candidate in known), None)


def by_present_names(settings: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Settings of a file with every name that is not among those `known`, but was one of them, as it is now."""
    return {present_name(name, known) or name: value for name, value in settings.items()}
