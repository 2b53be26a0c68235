"""Nested settings in one mapping, as loggers and comparisons name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def flat_settings(
    settings: Mapping[str, Any], prefix: str = "", written: Callable[[object], str] = str
) -> dict[str, str | bool | int | float]:
    """Settings by dotted name as loggers take them: numbers, truth values and text.

    `class_path` and `init_args` go out of the names; lists of classes are named by class. `written` makes text of
    lists and what else is neither.
    """
    flat: dict[str, str | bool | int | float] = {}
    for name, value in settings.items():
        place = prefix if name == "init_args" else f"{prefix}.{name}".strip(".")
        if isinstance(value, list) and value and all(isinstance(one, Mapping) and "class_path" in one for one in value):
            value = {one["class_path"].rpartition(".")[2]: one.get("init_args") or {} for one in value}
        if isinstance(value, Mapping):
            flat |= flat_settings(value, place, written)
        elif value is not None:
            place = prefix if name == "class_path" else place
            flat[place] = value if isinstance(value, bool | int | float | str) else written(value)
    return flat
