"""Records of a family, each in a file of one folder: a new file there is known everywhere."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Protocol, TypeVar


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Record = TypeVar("_Record", bound=_Named)


def records_in(folder: ModuleType, family: type[_Record]) -> dict[str, _Record]:
    """What the modules of a package define of a family, by name, in alphabetical order."""
    modules = [
        importlib.import_module(f"{folder.__name__}.{each.name}") for each in pkgutil.iter_modules(folder.__path__)
    ]
    records = [each for module in modules for each in vars(module).values() if isinstance(each, family)]
    return {record.name: record for record in sorted(records, key=lambda record: record.name)}
