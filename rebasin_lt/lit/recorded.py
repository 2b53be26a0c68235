"""What an object of the user's own was made with, where that is primitives: for checkpoints, which are to say it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, LightningModule

from rebasin_lt.feeding.failure import failing
from rebasin_lt.lit.checkpoint_content import MADE_WITH, METADATA
from rebasin_lt.settings.signatures import arguments, given, is_primitive
from rebasin_lt.settings.user_code import import_named, is_user_code

UNSAID = "unsaid"
"""Stands in a checkpoint for settings that could not be said."""

_MADE_BY = "_rebasin_lt_made_by"
_SPELLED = {"name": "name="}
"""An argument that would be taken for the name of what was made, as a checkpoint spells it: no other can be so."""
_NEVER = ("download", "init_from")  # a file says how an object is made; it may not have anything fetched, or read


def class_name(kind: Any) -> str:
    """What the user calls a class or function: `package.module:Name`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def remember(made: object, settings: Mapping[str, Any], name: str | None = None) -> None:
    """Keep with what `made` was made: the arguments, and what made it, if that is not its class."""
    object.__setattr__(made, _MADE_BY, (name or class_name(type(made)), dict(settings)))


def recorded(made: LightningModule | LightningDataModule) -> dict[str, Any]:
    """`name` and arguments, in primitives, with which `made` is made again; or `name` and `UNSAID`.

    They are those that `remember` was told of, or that the object itself saved (`save_hyperparameters`). Nothing can be
    said of arguments that nobody kept or that are objects, of a class of a function, and of data with an argument that
    is called `name`; that of a module is said as `name=`.
    """
    kind, told = type(made), vars(made).get(_MADE_BY)
    name, known = (class_name(kind), dict(made.hparams_initial)) if told is None else told
    unsaid = {"name": name, UNSAID: True}
    if "<locals>" in name:
        return unsaid
    taken = arguments(kind) if name == class_name(kind) else dict.fromkeys(known)
    unknown = taken.keys() - known.keys() if told is None else known.keys() - taken.keys() - {*_NEVER}
    if unknown:
        return unsaid
    found = {key: value for key, value in known.items() if key in taken}
    said: dict[str, Any] | None = given(kind, (), found) if name == class_name(kind) else found
    if said is None or ("name" in taken and not isinstance(made, LightningModule)):
        return unsaid
    said = {_SPELLED.get(key, key): value for key, value in said.items() if key not in _NEVER}
    return {"name": name, **said}


def made_again(
    name: str, content: Mapping[str, Any], path: Path | str, width: float, num_classes: int
) -> LightningModule | None:
    """The user's own module `name`, made with the arguments that the content of a checkpoint says of that class.

    Those are the ones that we recorded, or that Lightning did (`hyper_parameters`). `width` and `num_classes` are for
    arguments that are not said, where they are no defaults or the class needs them. None where `name` is no such class
    or nothing is said of it. Raises InputError, in one line, where the class does not take them.
    """
    kind = import_named("model", name) if is_user_code(name) else None
    own = content.get(METADATA, {}).get(MADE_WITH) or {}
    if not (isinstance(kind, type) and issubclass(kind, LightningModule)):
        return None
    if own and not _is_named(kind, name, str(own.get("name"))):
        return None
    taken, kept = arguments(kind), content.get(LightningModule.CHECKPOINT_HYPER_PARAMS_KEY)
    spelled = {there: key for key, there in _SPELLED.items()}
    told = {spelled.get(key, key): value for key, value in own.items() if key not in {"name", UNSAID}}
    said = {**(kept if isinstance(kept, Mapping) else {}), **told}
    settings = {key: value for key, value in said.items() if key in taken and key not in _NEVER and is_primitive(value)}
    for key, value, usual in (("width", width, 1), ("num_classes", num_classes, 10)):
        if key in taken and key not in settings and (value != usual or taken[key].default is taken[key].empty):
            settings[key] = value
    with failing(
        lambda: f"model is {name!r}, which cannot be made with what {path} says ({settings or 'nothing'})",
        "; give its class save_hyperparameters(), or name a function that makes it (--model package.module:function)",
    ):
        return kind(**settings)


def _is_named(kind: type, given_name: str, name: str) -> bool:
    """Whether a checkpoint's `name` is that of the class; a script's has no module to go by."""
    module, _, attribute = name.partition(":")
    return name in {given_name, class_name(kind)} or (module == "__main__" and attribute == kind.__qualname__)
