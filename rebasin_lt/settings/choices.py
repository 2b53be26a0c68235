"""Names that choose one of several things: an unknown one is refused with the near one. Light tables import by name."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from rebasin_lt.errors import InputError

Record = TypeVar("Record")


def chosen(what: str, name: object, known: Mapping[str, Record], others: str = "") -> Record:
    """The record that a table has of `name`, which the user gave as `what`.

    `others` says what else may be given, such as "or package.module:name". Raises InputError for a name that is not
    in the table, with the near one and all there are.
    """
    check_known(what, name, known, others)
    return known[str(name)]


def check_known(what: str, name: object, known: Iterable[str], others: str = "") -> None:
    """Raise InputError, as `chosen` does, for a name that is none of `known`."""
    names = list(known)
    if name not in names:
        expected = ", ".join(names) + f", {others}" * bool(others)
        raise InputError(f"{what} is {name!r}, which is not known{near(name, names)}: expected {expected}")


def check_names(where: str, settings: Iterable[object], known: Iterable[str]) -> None:
    """Raise InputError, naming `where` they stand, for the first of the names of settings that is none of `known`."""
    names = list(known)
    for name in settings:
        if name not in names:
            some = ", ".join(names)
            raise InputError(f"{where} has no setting {name!r}{near(name, names)}: expected some of {some}")


def near(name: object, known: Iterable[str]) -> str:
    """The text ` (did you mean NAME?)` for the known name most like this one; empty where none is like it."""
    close = closest(name, known)
    return f" (did you mean {close}?)" if close else ""


def near_in(name: str, module: str) -> str:
    """As `near`, of the public names in a module that was imported; empty for one that was not.

    >>> near_in("Itterable", "collections.abc")
    ' (did you mean Iterable?)'
    """
    return near(name, [each for each in dir(sys.modules.get(module)) if not each.startswith("_")])


def closest(name: object, known: Iterable[str], alike: float = 0.6) -> str:
    """The known name most like this one, in small letters and capitals alike; "" where none is `alike`, 1 being equal.

    >>> closest("csvloger", ["TensorBoardLogger", "CSVLogger"])
    'CSVLogger'
    """
    names = {each.lower(): each for each in known}
    return next((names[each] for each in difflib.get_close_matches(str(name).lower(), names, 1, alike)), "")


def imported(name: str) -> Any:
    """The object `module:attribute` of this package, without the package in front, as a record of a table names it."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f"rebasin_lt.{module}"), attribute)
