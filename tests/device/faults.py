"""Small faults, written into functions for the time of a test."""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from typing import Any, NamedTuple

import pytest


class Fault(NamedTuple):
    """In the function `module:name`, the text `old` becomes `new`."""

    what: str
    place: str
    old: str
    new: str

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module_name, _, path = self.place.partition(":")
        module = importlib.import_module(module_name)
        *owners, name = path.split(".")
        owner: Any = module
        for each in owners:
            owner = getattr(owner, each)
        function = inspect.getattr_static(owner, name)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.old) == 1, f"{self.place} has {self.old!r} {source.count(self.old)} times"
        source = source.replace(self.old, self.new)
        if owners:  # a function that is no part of a class does not know its base
            source = source.replace("super()", f"super({owners[-1]}, self)")
        found: dict[str, Any] = {}
        exec(compile(f"from __future__ import annotations\n{source}", f"<{self.what}>", "exec"), vars(module), found)
        for place in [owner] if owners else _importers(function, name):
            monkeypatch.setattr(place, name, found[name])


def _importers(function: Any, name: str) -> list[Any]:
    """All modules that know the function by its name."""
    return [module for module in list(sys.modules.values()) if getattr(module, "__dict__", {}).get(name) is function]
