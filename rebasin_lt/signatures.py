"""What a class takes: its constructor's arguments, those that it hands on to its base classes included."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

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
