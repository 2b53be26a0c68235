"""Code of the user's own, named `package.module:attribute`. A file may not choose it: the user has to name it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from rebasin_lt.errors import InputError
from rebasin_lt.settings.choices import near_in

TORCHVISION, TIMM = "torchvision:", "timm:"
"""What the names of networks of torchvision and timm begin with."""

ON_PATH = "; is it on PYTHONPATH? PYTHONPATH=. finds what lies in the current folder"
"""What is said of a module that cannot be found."""


def is_user_code(name: str) -> bool:
    """True if a name is of that form; `torchvision:NAME` and `timm:NAME` are the registry's."""
    return all(name.partition(":")) and not name.startswith((TORCHVISION, TIMM))


def import_named(argument: str, name: str) -> object:
    """The object of this `name`, which the user gave as `argument`. Raises InputError if it cannot be imported."""
    module, _, attribute = name.partition(":")
    try:
        return attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:  # whatever the user's module raises
        missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        hint = ON_PATH if missing else near_in(attribute, module)
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ImportError | AttributeError) else error
        raise InputError(f"{argument} is {name!r}, which cannot be imported: {reason}{hint}") from error


def import_function(argument: str, name: str, expected: str) -> Callable[..., Any]:
    """The function of this `name`, as `import_named`; of what is none the InputError says what is `expected`."""
    function = import_named(argument, name)
    if not callable(function):
        raise InputError(f"{argument} is {name!r}, a {type(function).__name__}, expected {expected}")
    return function
