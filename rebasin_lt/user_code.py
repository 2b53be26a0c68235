"""Code of the user's own, named `package.module:attribute`. A file may not choose it: the user has to name it."""

from __future__ import annotations

import importlib

from rebasin_lt.errors import InputError


def is_user_code(name: str) -> bool:
    """Whether a name is of that form."""
    return all(name.partition(":"))


def import_named(argument: str, name: str) -> object:
    """What `name` stands for, which the user gave as `argument`. Raises InputError if it cannot be imported."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{argument} is {name!r}, which cannot be imported: {error}; is it on PYTHONPATH?") from error
