"""The examples in docstrings, executed."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "rebasin_lt"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
HARD = ("TensorType.reshape", "broadcast", "execute", "find_observations", "_merge")
"""Functions that take a picture to be understood."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_hard_functions_have_an_example() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    symmetry = [importlib.import_module(name) for name in MODULES if name.startswith("rebasin_lt.symmetry.")]
    shown = {test.name for module in symmetry for test in finder.find(module, module.__name__) if test.examples}
    for function in HARD:
        assert [name for name in shown if name.endswith(f".{function}")], function
