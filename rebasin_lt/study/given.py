"""Networks and masks that exist, for a study to begin from: `given: {a: runs/a, b: "runs/b{seed}", mask: FILE}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rebasin_lt.errors import InputError
from rebasin_lt.settings.choices import check_known
from rebasin_lt.storage.paths import expanded

GIVEN = ("a", "b", "mask")


def check_given(
    given: Mapping[str, Any], seeds: Sequence[int], widths: Sequence[float], targets: Sequence[float]
) -> None:
    """Raise InputError for what cannot be given; files are not looked at."""
    for name, value in given.items():
        check_known("a name under given", name, GIVEN)
        paths = value if isinstance(value, list | tuple) else [value]
        if not paths or not all(isinstance(path, str) and path for path in paths):
            raise InputError(f"given.{name} is {value!r}, expected a path, which may hold {{seed}}, or one per seed")
        if isinstance(value, list | tuple) and len(value) != len(seeds):
            raise InputError(f"given.{name} holds {len(value)} paths, but seeds is {list(seeds)}: give one for each")
    if "mask" in given and "a" not in given:
        raise InputError(
            f"given.mask is {given['mask']!r}, but given.a is not set: give the network it was pruned from"
        )
    masks = given.get("mask", "{sparsity}")
    if len(targets) > 1 and not all("{sparsity}" in path for path in ([masks] if isinstance(masks, str) else masks)):
        raise InputError(
            f"given.mask is {masks!r}, but recipe.targets is {list(targets)}: write {{sparsity}} where the paths "
            "differ, or leave one target"
        )
    if given and len(widths) > 1:
        raise InputError(f"widths is {list(widths)}, but given networks have one width: leave one")


def given_path(given: Mapping[str, Any], name: str, seeds: Sequence[int], seed: int, sparsity: float = 0) -> str:
    """Where the network or mask of a repetition lies."""
    value = given[name]
    path = str(value if isinstance(value, str) else value[list(seeds).index(seed)])
    path = path.replace("{seed}", str(seed)).replace("{sparsity}", f"{sparsity:g}")  # noqa: RUF027
    return expanded(path, f"given.{name}")
