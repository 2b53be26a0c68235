"""YAML that says one thing: plain values, every key once, no more of it than there is in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rebasin_lt.errors import RebasinError

_MAX_BYTES, _MAX_VALUES, _MAX_DEPTH = 2**20, 100_000, 100


def read_settings(path: Path | str, name: str, refused: type[RebasinError]) -> dict[str, Any]:
    """The settings by name in a file. Raises `refused`, which calls the file `name`, for anything else."""
    try:
        settings = read_yaml(path)
    except ValueError as error:
        raise refused(f"{name} is not readable YAML: {error}") from error
    if not isinstance(settings, dict):
        raise refused(f"{name} holds a {type(settings).__name__}, expected settings by name")
    return settings


def read_yaml(path: Path | str) -> Any:
    """The plain values in a file.

    Raises ValueError, saying why, for what is not UTF-8 or no YAML, for a key that is there twice (of which every
    other reader takes the last, silently), for tags that name Python objects, and for aliases that multiply.
    """
    path = Path(path)
    if not path.is_file():  # a pipe can be read once, and some devices have no end
        raise ValueError("it is not a regular file")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"it has {path.stat().st_size} bytes, expected settings")
    try:
        text = path.read_bytes().decode("utf-8")
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else loader.construct_document(node)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise ValueError(_reason(error)) from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with mappings checked as they are composed: later, equal keys are one."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.depth == _MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {_MAX_DEPTH} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if _count(node, {}) > _MAX_VALUES:
            raise yaml.YAMLError(f"its aliases multiply to more than {_MAX_VALUES} values")
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in keys:
                    raise yaml.YAMLError(f"line {key.start_mark.line + 1}: key {key.value!r} is there twice")
                keys.add(key.value)
        return node


def _count(node: Any, known: dict[int, int]) -> int:
    """Values in a document, those behind aliases as often as they are referred to; too many if it contains itself."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _MAX_VALUES + 1  # what an alias to a node around it finds
    children = [] if node is None or isinstance(node, yaml.ScalarNode) else node.value
    parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
    known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0]
