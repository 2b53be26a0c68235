"""One thing has one name: in dataclasses, on the command line, in YAML and in results."""

from __future__ import annotations

import ast
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType

import pytest
import yaml

from rebasin_lt.commands.table import COMMANDS
from rebasin_lt.settings.config_files import find_config, shipped
from rebasin_lt.storage.former_names import FORMER, by_present_names, present_name

PACKAGE = Path(__file__).parents[1] / "rebasin_lt"
WORDS = {
    **dict.fromkeys(("n", "number", "count", "nr"), "num"),
    **{"ckpt": "checkpoint", "perm": "permutation", "img": "image", "cls": "class", "lr": "learning_rate"},
    **{"wd": "weight_decay", "bs": "batch_size", "dir": "folder"},
}
"""Words that mean one thing, by the one that stands for them."""
BOTH = {frozenset({"ckpt", "checkpoints"})}
"""A file of one network is `ckpt`, as its ending; `checkpoints` are those of many, by their settings."""
COLLECTIONS = (tuple, Sequence, Mapping)


def fields_of(path: Path) -> Iterator[tuple[str, str]]:
    """Name and annotation of the fields of every dataclass in a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(each) for each in node.decorator_list):
            for part in node.body:
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    yield part.target.id, ast.unparse(part.annotation)


def keys_in(path: Path) -> Iterator[str]:
    """Keys that a module writes down in dictionaries: those of results."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):
            yield from (key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


def keys_of(settings: object) -> Iterator[str]:
    """Keys of a YAML file, at any depth."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield str(key)
            yield from keys_of(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from keys_of(value)


def all_names() -> set[str]:
    """Every field, option, YAML key and result key."""
    names = {name for path in PACKAGE.rglob("*.py") for name, _ in fields_of(path)}
    names |= {name for command in COMMANDS.values() for name in command.types}
    for name in shipped():
        names |= set(keys_of(yaml.safe_load(Path(find_config(name)).read_text(encoding="utf-8"))))
    for room in ("analyses", "study", "pruning", "connectivity"):
        names |= {key for path in (PACKAGE / room).rglob("*.py") for key in keys_in(path)}
    return {name for name in names if name.isidentifier()}


def meaning(name: str) -> str:
    """A name with every word as the one that stands for it, in the singular."""
    words = [WORDS.get(word, word) for word in name.split("_")]
    return "_".join(word[:-1] if word.endswith("s") and not word.endswith("ss") else word for word in words)


def spelled_twice(names: Iterable[str]) -> set[frozenset[str]]:
    """Names of one meaning, but for a name in the singular and its plural: one thing, and several of them."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(meaning(name), set()).add(name)
    return {frozenset(group) for group in groups.values() if len({name.removesuffix("s") for name in group}) > 1}


@pytest.fixture(scope="module")
def option_types() -> dict[str, set[object]]:
    """The types of every option in all commands, whether it may be left out or not."""
    found: dict[str, set[object]] = {}
    for command in COMMANDS.values():
        for name, hint in command.types.items():
            parts = (
                [part for part in typing.get_args(hint) if part is not NoneType]
                if NoneType in typing.get_args(hint)
                else [hint]
            )
            found.setdefault(name, set()).update(parts)
    return found


def test_no_two_names_mean_one_thing() -> None:
    names = all_names()
    assert {"num_alphas", "masks", "overlap", "targets", "methods"} <= names
    assert spelled_twice(names) <= BOTH


@pytest.mark.parametrize("pair", [("n_images", "num_images"), ("ckpt", "checkpoint"), ("num_alpha", "n_alphas")])
def test_two_names_of_one_thing_are_seen(pair: tuple[str, str]) -> None:
    assert spelled_twice({*pair, "seed", "seeds"}) == {frozenset(pair)}


def test_an_option_has_one_type(option_types) -> None:
    assert {name: kinds for name, kinds in option_types.items() if len(kinds) > 1} == {}


def test_the_plural_is_of_several(option_types) -> None:
    """Where there is a singular too; so `--mask` cannot take files in one command and a file in another."""
    pairs = [(name, f"{name}s") for name in option_types if f"{name}s" in option_types]
    assert ("mask", "masks") in pairs
    for pair in pairs:
        several = [any(typing.get_origin(kind) in COLLECTIONS for kind in option_types[name]) for name in pair]
        assert several == [False, True], pair


def test_former_names_are_those_of_no_option_that_has_a_new_one() -> None:
    for command in COMMANDS.values():
        for former, present in FORMER.items():
            assert not {former, present} <= set(command.types)
    assert set(FORMER.values()) <= {name for command in COMMANDS.values() for name in command.types}


def test_former_names_are_read_as_those_of_today() -> None:
    assert present_name("alphas", ["num_alphas"]) == "num_alphas"
    assert present_name("matcher.method", ["method"]) == "method"
    assert present_name("mask", ["mask", "masks"]) is None
    assert present_name("alphas", ["seed"]) is None
    assert by_present_names({"points": 3, "mask": 1, "x": 2}, ["num_points", "mask"]) == {
        "num_points": 3,
        "mask": 1,
        "x": 2,
    }
