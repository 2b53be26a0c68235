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


def with_public_classes(settings: Any) -> Any:
    """Settings with every class of this package under its public name, wherever a file of before says it lies.

    >>> with_public_classes({"data": {"class_path": "rebasin_lt.lit.data.Digits"}})
    {'data': {'class_path': 'rebasin_lt.Digits'}}
    """
    if isinstance(settings, Mapping):
        return {
            name: _public(value) if name == "class_path" else with_public_classes(value)
            for name, value in settings.items()
        }
    return [with_public_classes(each) for each in settings] if isinstance(settings, list) else settings


def _public(path: Any) -> Any:
    """A public name is defined once in the package, so its last part tells which it is."""
    package, dot, rest = path.partition(".") if isinstance(path, str) else ("", "", "")
    return f"{package}.{rest.rpartition('.')[2]}" if package == "rebasin_lt" and dot else path
