"""Fields of settings that Python code fills in: refused if their values are not of the type that they are written with.

What comes from YAML or the command line is refused by its parser; this looks at the same before anything is done.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from typing import Any

from rebasin_lt.errors import InputError

_PLAIN: Mapping[Any, tuple[type, str]] = {
    **{int: (Integral, "a whole number"), float: (Real, "a number")},
    **{str: (str, "a text"), bool: (bool, "true or false")},
}


def check_fields(settings: object, prefix: str = "") -> None:
    """Raise InputError for a field of a dataclass that is not of its type, and for a list that holds something else.

    Looked at are texts, numbers, truth values, mappings, and lists of those; what mappings hold is for others to check.
    None passes. `prefix` stands before names in errors.
    """
    kind: type = type(settings)
    for name, hint in _hints(kind).items():
        value = getattr(settings, name)
        if value is not None:
            _check(f"{prefix}{name}", value, hint)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return {name: _without_none(hint) for name, hint in typing.get_type_hints(kind).items()}


def _check(name: str, value: Any, hint: Any) -> None:
    kind = typing.get_origin(hint)
    if kind in {tuple, Sequence}:
        element = typing.get_args(hint)[0]
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise InputError(f"{name} is {value!r}, expected a list")
        for each in value:
            if not _is(each, element):
                raise InputError(f"{name} holds {each!r}, expected {_text(element)} in each place")
    elif kind is Mapping:
        if not isinstance(value, Mapping):
            raise InputError(f"{name} is {value!r}, expected settings by name")
    elif not _is(value, hint):
        raise InputError(f"{name} is {value!r}, expected {_text(hint)}")


def _is(value: Any, kind: Any) -> bool:
    """True if a value is of a kind; a truth value is no number."""
    if kind not in _PLAIN:
        return kind is Any or not isinstance(kind, type) or isinstance(value, kind)
    return isinstance(value, _PLAIN[kind][0]) and (kind is bool or not isinstance(value, bool))


def _text(kind: Any) -> str:
    return _PLAIN[kind][1] if kind in _PLAIN else f"a {kind.__name__}"


def _without_none(hint: Any) -> Any:
    """The type behind `TYPE | None`; any other as it is."""
    if typing.get_origin(hint) not in {types.UnionType, typing.Union}:
        return hint
    (kind,) = [each for each in typing.get_args(hint) if each is not types.NoneType]
    return kind
