"""Classes as their source says they are, without importing them: what imports torch takes seconds and 600 MB.

Whatever cannot be told from the source alone is `UNSURE`, and left to whoever imports the class.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

UNSURE: Final = object()
"""Stands for a value that the source does not say in so many words."""

_PLAIN = {"bool": bool, "int": int, "float": float, "str": str}
_ANY_OF, _LIST = ("Union", "Optional"), ("list", "List", "Sequence", "Iterable", "tuple", "Tuple")


class Found(NamedTuple):
    """A statement of a module, which defines a name."""

    module: str
    node: ast.stmt


def surely_takes(module: str, name: str, settings: Mapping[str, Any], but: Collection[str] = ()) -> bool:
    """True if the class takes each of the settings, none of which is one of `but`, for certain."""
    takes = source_arguments(module, name)
    return all(key in takes and key not in but and _fits(value, *takes[key]) for key, value in settings.items())


def source_arguments(module: str, name: str) -> dict[str, tuple[ast.expr | None, str]]:
    """The annotations of a class's arguments, or of a dataclass's fields, each with the module that it is written in.

    Those of base classes too, where the constructor ends in `**kwargs` or there is none.
    """
    found = _defined(module, name)
    if found is None or not isinstance(found.node, ast.ClassDef):
        return {}
    own, rest = _own_arguments(found.node)
    inherited: dict[str, tuple[ast.expr | None, str]] = {}
    if rest:
        for base in found.node.bases:
            if isinstance(base, ast.Name):
                inherited = {**source_arguments(found.module, base.id), **inherited}
    return {**inherited, **{argument: (annotation, found.module) for argument, annotation in own.items()}}


def source_attribute(module: str, name: str, attribute: str) -> Any:
    """The value of a class's attribute, or of its base classes', where it is written out; else UNSURE."""
    found = _defined(module, name)
    if found is None or not isinstance(found.node, ast.ClassDef):
        return UNSURE
    for statement in found.node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        if value is not None and any(isinstance(each, ast.Name) and each.id == attribute for each in targets):
            return value.value if isinstance(value, ast.Constant) else UNSURE
    bases = [base.id for base in found.node.bases if isinstance(base, ast.Name)]
    values = (source_attribute(found.module, base, attribute) for base in bases)
    return next((value for value in values if value is not UNSURE), UNSURE)


def _own_arguments(node: ast.ClassDef) -> tuple[dict[str, ast.expr | None], bool]:
    """The arguments that a class names itself, and whether it hands others on."""
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            listed = [*statement.args.args[1:], *statement.args.kwonlyargs]
            return {argument.arg: argument.annotation for argument in listed}, statement.args.kwarg is not None
    if not node.decorator_list:
        return {}, True
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)]
    return {each.target.id: each.annotation for each in fields if isinstance(each.target, ast.Name)}, True


def _fits(value: object, hint: ast.expr | None, module: str, depth: int = 0) -> bool:
    """True if a value is of an annotated type for certain."""
    if isinstance(hint, ast.Constant):
        if isinstance(hint.value, str):
            return _fits(value, ast.parse(hint.value, mode="eval").body, module, depth)
        return hint.value is None and value is None
    if isinstance(hint, ast.BinOp):
        return _fits(value, hint.left, module, depth) or _fits(value, hint.right, module, depth)
    if isinstance(hint, ast.Name):
        kind = _PLAIN.get(hint.id)
        if kind is not None:
            return type(value) is kind or (kind is float and type(value) is int)
        found = _defined(module, hint.id) if depth < 5 else None
        alias = found.node.value if found and isinstance(found.node, ast.Assign) else None
        return found is not None and alias is not None and _fits(value, alias, found.module, depth + 1)
    return isinstance(hint, ast.Subscript) and _fits_subscript(value, hint, module, depth)


def _fits_subscript(value: object, hint: ast.Subscript, module: str, depth: int) -> bool:
    name = hint.value.id if isinstance(hint.value, ast.Name) else ""
    parts = hint.slice.elts if isinstance(hint.slice, ast.Tuple) else [hint.slice]
    if name == "Literal":
        return any(
            isinstance(part, ast.Constant) and type(value) is type(part.value) and value == part.value for part in parts
        )
    if name in _ANY_OF:
        return (name == "Optional" and value is None) or any(_fits(value, part, module, depth) for part in parts)
    elements = [part for part in parts if not (isinstance(part, ast.Constant) and part.value is ...)]
    if name in _LIST and isinstance(value, list | tuple) and len(elements) == 1:
        return all(_fits(each, elements[0], module, depth) for each in value)
    return False


def _defined(module: str, name: str) -> Found | None:
    """Where a name comes from that a module defines, or imports from another; None where that cannot be told."""
    for statement in _statements(module):
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return Found(module, statement)
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in statement.targets
        ):
            return Found(module, statement)
        if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            for alias in statement.names:
                if (alias.asname or alias.name) == name and statement.module != module:
                    return _defined(statement.module, alias.name)
    return None


@cache
def _statements(module: str) -> list[ast.stmt]:
    """The statements of a module, those for type checkers alone included; none where its source is not found."""
    top, *parts = module.split(".")
    spec = importlib.util.find_spec(top)  # of the top package alone: a deeper one would be imported
    places = [Path(place, *parts) for place in (spec.submodule_search_locations or [] if spec else [])]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    source = next((file for file in files if file.is_file()), None)
    tree = ast.parse(source.read_text(encoding="utf-8")) if source else ast.Module([], [])
    return [each for statement in tree.body for each in [statement, *getattr(statement, "body", [])]]
