"""Settings by name that become arguments of a class: refused, if it has none of that name or not of that kind."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from rebasin_lt.errors import InputError
from rebasin_lt.settings.choices import check_names
from rebasin_lt.settings.signatures import arguments


def check_settings(
    where: str, what: type, settings: Mapping[str, Any], taken: Collection[str] = (), also: Collection[str] = ()
) -> None:
    """Refuse settings that `what` does not take, by the names and types of its constructor's arguments.

    `where` names them in the error, `taken` are arguments that it is given otherwise, `also` are settings there that
    something else takes. Raises InputError.
    """
    takes = arguments(what)
    known = {name: argument for name, argument in takes.items() if name not in taken}
    parser = ArgumentParser(exit_on_error=False)
    others = {name for name in takes if name not in settings}
    typed = parser.add_class_arguments(what, as_group=False, skip=others, fail_untyped=False)
    for name, value in settings.items():
        if name in taken and name in takes:
            raise InputError(f"{where}.{name} is set elsewhere in a study: leave it out")
        check_names(where, {name} - {*known}, [*known, *also])
        if name in typed and not _fits(parser, what, known[name], value):
            raise InputError(f"{where}.{name} is {value!r}, expected {_text(_hint(what, name))}")


def check_not_null(where: str, what: type, settings: Mapping[str, Any]) -> None:
    """Refuse null for an argument of `what` that cannot be None, which a parser lets pass. Raises InputError."""
    for name, argument in arguments(what).items():
        if argument.default is None or argument.annotation is argument.empty or settings.get(name, 0) is not None:
            continue
        hint = _hint(what, name)
        if hint is not Any and not isinstance(hint, str | TypeVar) and NoneType not in get_args(hint):
            raise InputError(f"{where}.{name} is null, expected {_text(hint)}")


def _fits(parser: ArgumentParser, what: type, argument: inspect.Parameter, value: Any) -> bool:
    if argument.annotation is argument.empty:
        return True
    if value is None:  # the parser takes it for a setting that is not given
        return argument.default is None or NoneType in get_args(_hint(what, argument.name))
    try:
        parsed = parser.parse_object({argument.name: value})[argument.name]
    except ArgumentError:
        return False
    return isinstance(value, bool) or not isinstance(parsed, bool)  # the text "no" would be true


def _hint(what: type, name: str) -> object:
    """The type of an argument, aliases resolved; as it is written where that cannot be done."""
    owner = next(base for base in what.__mro__ if name in getattr(vars(base).get("__init__"), "__annotations__", {}))
    try:
        return get_type_hints(vars(owner)["__init__"])[name]
    except NameError:  # imported for type checkers alone
        return vars(owner)["__init__"].__annotations__[name]


def _text(hint: object) -> str:
    return hint if isinstance(hint, str) else inspect.formatannotation(hint).replace("typing.", "")
