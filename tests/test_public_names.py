"""A public name has one definition in the package: whoever looks for it finds one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "rebasin_lt"


def public_names(source: str) -> Iterator[str]:
    """Names of the functions, classes and constants that a module defines for others."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = [part for target in targets for part in getattr(target, "elts", [target])]
            found = [part.id for part in parts if isinstance(part, ast.Name)]
        else:
            continue
        yield from (name for name in found if not name.startswith("_"))


def defined_twice(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Public names that more than one of the modules defines, with those modules."""
    places: dict[str, list[str]] = {}
    for module, source in sources.items():
        for name in dict.fromkeys(public_names(source)):
            places.setdefault(name, []).append(module)
    return {name: modules for name, modules in places.items() if len(modules) > 1}


def test_a_public_name_is_defined_once() -> None:
    sources = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert defined_twice(sources) == {}


def test_names_that_are_defined_twice_are_seen() -> None:
    first = "class Part: ...\nA, B = 1, 2\n_C = 3\ndef f(): ...\ndef g():\n    x = 1"
    second = "def Part(): ...\nB: int = 2\n_C = 3\nx = 1\nfrom a import f"
    assert defined_twice({"a": first, "b": second}) == {"Part": ["a", "b"], "B": ["a", "b"]}
