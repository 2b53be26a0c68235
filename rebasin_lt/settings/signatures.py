"""The arguments that a class takes, those for its base classes included; and those that it was given."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from rebasin_lt.storage.paths import with_paths_expanded

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def arguments(kind: type) -> Mapping[str, inspect.Parameter]:
    """The arguments of a class by name; where its constructor ends in `**kwargs`, those of the next base class too."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        _, *own = inspect.signature(vars(base)["__init__"]).parameters.values()  # without `self`
        for argument in own:
            if argument.kind not in _VARIADIC:
                found.setdefault(argument.name, argument)
        if all(argument.kind is not argument.VAR_KEYWORD for argument in own):
            break
    return found


def written_class(value: Any) -> Any:
    """`{class_path: …, init_args: {…}}` as it was written: a parser that could import the class made it a namespace
    and filled in defaults. Anything else as it is."""
    if not hasattr(value, "as_dict"):
        return value
    written: dict[str, Any] = value.as_dict()
    module, _, name = str(written.get("class_path")).rpartition(".")
    takes = arguments(getattr(sys.modules.get(module), name, object))
    filled = written.get("init_args") or {}
    defaults = {key: None if each.default is each.empty else each.default for key, each in takes.items()}
    usual, here = with_paths_expanded(defaults), with_paths_expanded(filled)  # `./mlruns` may have become `mlruns`
    own = {key: part for key, part in filled.items() if key not in usual or usual[key] != here[key]}
    rest = {key: part for key, part in written.items() if key != "init_args"}
    return {**rest, "init_args": own} if own else rest


def given(kind: type, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of a call of a class by name, primitive defaults filled in: equal ones make an equal object.

    Paths and numpy's numbers count as texts and numbers. None where the arguments cannot be said so: for any other
    value that is no primitive, for one that has no name, and for a call that the class does not take.
    """
    signature = inspect.signature(kind.__init__)  # type: ignore[misc]
    try:
        bound = signature.bind(None, *positional, **named)
    except TypeError:
        return None
    found: dict[str, Any] = {}
    for name, argument in list(signature.parameters.items())[1:]:  # without `self`
        value = _primitive(bound.arguments.get(name, argument.default))
        if argument.kind in {argument.VAR_POSITIONAL, argument.POSITIONAL_ONLY}:
            if name in bound.arguments:
                return None
        elif argument.kind is argument.VAR_KEYWORD:
            found |= {key: _primitive(part) for key, part in bound.arguments.get(name, {}).items()}
        elif name in bound.arguments or is_primitive(value):
            found[name] = value
    return copy.deepcopy(found) if is_primitive(found) else None


def _primitive(value: object) -> object:
    if isinstance(value, PathLike):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def is_primitive(value: object) -> bool:
    """True if a value is None, a truth value, number or text, or a list, tuple or mapping by name of such.

    By its very type: an enumeration's member or numpy's number would have to be unpickled.
    """
    if type(value) in (list, tuple):
        return all(map(is_primitive, value))  # type: ignore[call-overload]
    if type(value) is dict:
        return all(type(name) is str and is_primitive(part) for name, part in value.items())
    return value is None or type(value) in (bool, int, float, str)
