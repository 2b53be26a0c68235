"""The examples in docstrings, executed."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import rebasin_lt as rb

PACKAGE = Path(__file__).parents[1] / "rebasin_lt"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
HARD = ("TensorType.reshape", "broadcast", "execute", "find_observations", "_merge")
"""Functions that take a picture to be understood."""


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given `import rebasin_lt as rb`, torch and its `nn`, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    known = {"rb": rb, "torch": torch, "nn": torch.nn}
    assert doctest.testmod(importlib.import_module(name), extraglobs=known).failed == 0


@pytest.mark.parametrize("name", [name for name in rb.__all__ if name != "__version__"])
def test_a_public_name_has_an_example(name: str) -> None:
    """In the docstring of the class or function itself; the test above executes it."""
    examples = doctest.DocTestParser().get_examples(getattr(rb, name).__doc__)
    assert any("rb." in example.source or name in example.source for example in examples)


def test_hard_functions_have_an_example() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    symmetry = [importlib.import_module(name) for name in MODULES if name.startswith("rebasin_lt.symmetry.")]
    shown = {test.name for module in symmetry for test in finder.find(module, module.__name__) if test.examples}
    for function in HARD:
        assert [name for name in shown if name.endswith(f".{function}")], function
