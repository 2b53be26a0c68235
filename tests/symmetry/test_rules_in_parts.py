"""Nothing that a rule asks for can be left out: without it some network's symmetry is another one, or refused."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch
from operators import Around
from operators_in_parts import PARTS
from test_rules import CASES, CHUNK_OF, GROUPS, exported
from torch import Tensor, nn

from rebasin_lt.errors import SymmetryError
from rebasin_lt.feeding.forward_call import ForwardCall
from rebasin_lt.symmetry import rules
from rebasin_lt.symmetry.call import Rules
from rebasin_lt.symmetry.export import Program, export
from rebasin_lt.symmetry.trace import read_symmetry

TABLES = ("choices", "elementwise", "lookups", "products", "sequences", "statistics", "views")
ASKING = {"tie", "fix", "freeze", "forget", "_read", "_look_up", "_alongside", "broadcast", "append"}


@cache
def part(name: str) -> tuple[nn.Module, Program, Tensor]:
    torch.manual_seed(0)
    network = Around(PARTS[name][0])
    x = torch.randn(network.input_shape)
    return network, export(network, ForwardCall((x,))), x


@pytest.mark.parametrize("name", PARTS)
def test_these_groups_are_left_and_they_are_true(name: str) -> None:
    network, program, x = part(name)
    symmetry = read_symmetry(program, network)
    assert symmetry.unknown == {}
    assert tuple(symmetry.groups.values()) == PARTS[name][1]
    assert symmetry.verify(network, x) <= 1e-10


def module_of(table: str) -> ModuleType:
    return importlib.import_module(f"rebasin_lt.symmetry.operators.{table}")


def demands() -> Iterator[tuple[str, int, str, str]]:
    """All that rules ask for: table, line, what is asked, and the function that asks it."""
    for table in TABLES:
        for function in ast.parse(Path(str(module_of(table).__file__)).read_text()).body:
            for node in ast.walk(function):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                    asked = ast.unparse(node.value.func).rpartition(".")[2]
                    assert isinstance(function, ast.FunctionDef), "rules are functions"
                    assert asked in ASKING, f"{asked} in {table}.py, line {node.lineno}, is not known here"
                    yield table, node.lineno, asked, function.name


class Unasked(ast.NodeTransformer):
    """What is asked in one line is not: its arguments are worked out, and that is all."""

    def __init__(self, line: int) -> None:
        self.line = line

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        if node.lineno == self.line and isinstance(node.value, ast.Call):
            node.value = ast.Tuple(node.value.args, ast.Load())
        return node


def without(table: str, line: int) -> Rules:
    """The rules of a table, one of which asks one thing less."""
    module = module_of(table)
    tree = ast.fix_missing_locations(Unasked(line).visit(ast.parse(Path(str(module.__file__)).read_text())))
    changed = ModuleType(module.__name__)
    exec(compile(tree, str(module.__file__), "exec"), changed.__dict__)
    found = getattr(changed, table.upper())
    assert isinstance(found, Rules)
    return found


def is_noticed(network: nn.Module, program: Program, x: Tensor, changed: Rules, expected: dict[str, object]) -> bool:
    try:
        symmetry = read_symmetry(program, network, {**rules.RULES, **changed})
        sizes = {
            name: tuple(size for group, size in symmetry.groups.items() if group.startswith(name)) for name in expected
        }
        return sizes != expected or symmetry.verify(network, x) > 1e-10
    except SymmetryError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize(("table", "line", "asked", "function"), demands())
def test_nothing_that_is_asked_can_be_left_out(
    table: str, line: int, asked: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = without(table, line)
    monkeypatch.setattr(rules, "MOVING", rules.MOVING | changed.moving)
    monkeypatch.setattr(rules, "READING", rules.READING | changed.reading)
    for name in PARTS:
        if is_noticed(*part(name), changed, {"": PARTS[name][1]}):
            return
    own = [name for name, rule in changed.items() if rule.__name__ == function] or list(changed)
    for chunk in dict.fromkeys(CHUNK_OF[name] for name in own if name in CASES):
        if is_noticed(*exported(chunk), changed, {f"branches.of_{name}.": GROUPS.get(name, (8,)) for name in chunk}):
            return
    raise AssertionError(f"no network needs {asked} in {function} of operators/{table}.py, line {line}")
