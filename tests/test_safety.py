"""Nothing in the package runs what a file says: an audit of its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "pickle": {"load", "loads", "Unpickler"},
    "dill": {"load", "loads"},
    "cloudpickle": {"load", "loads"},
    "joblib": {"load"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "yaml": {
        "load",
        "load_all",
        "full_load",
        "full_load_all",
        "unsafe_load",
        "unsafe_load_all",
        "Loader",
        "FullLoader",
    },
    "os": {"system", "popen"},
    "runpy": {"run_path", "run_module"},
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
OWN_CODE = {"tutorial/cells.py"}  # the cells of the tutorial, which lie beside it
IMPORTS_BY_NAME = {  # what the caller names; our own names
    *(
        "settings/user_code.py",
        "__init__.py",
        "__main__.py",
        "commands/table.py",
        "settings/choices.py",  # `imported`: what a record of a table names
        "study/discovery.py",
        "golden/worker.py",
    ),
}


def findings(source: str, place: str) -> Iterator[str]:
    """Calls by which a file's content could run, or by which pickles are read."""
    tree = ast.parse(source)
    modules = {
        alias.asname or alias.name: alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN:
            bad = {alias.name for alias in node.names} & FORBIDDEN[node.module]
            yield from (f"{place}:{node.lineno} imports {node.module}.{name}" for name in bad)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id, node.value.id)
            if node.attr in FORBIDDEN.get(module, ()):
                yield f"{place}:{node.lineno} uses {module}.{node.attr}"
            if (module, node.attr) == ("importlib", "import_module") and place not in IMPORTS_BY_NAME:
                yield f"{place}:{node.lineno} imports a module by name"
        if isinstance(node, ast.Call):
            yield from _call(node, place)


def _call(node: ast.Call, place: str) -> Iterator[str]:
    name = ast.unparse(node.func)
    settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in BUILTINS and place not in OWN_CODE:
        yield f"{place}:{node.lineno} calls {name}"
    if name.endswith("torch.load") and settings.get("weights_only") != "True":
        yield f"{place}:{node.lineno} calls torch.load without weights_only=True"
    shell = settings.get("shell", "False") if name != "shtab.complete" else "False"  # the name of one, there
    if settings.get("allow_pickle", "False") != "False" or shell != "False":
        yield f"{place}:{node.lineno} calls {name} with {settings}"
    if name.split(".")[-1] in {"load_from_checkpoint", "load_state_dict_from_url"} or name.startswith("torch.hub."):
        yield f"{place}:{node.lineno} calls {name}"


@pytest.mark.parametrize("folder", ["rebasin_lt", "benchmarks"])
def test_nothing_is_unpickled_or_executed(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    found = [
        finding
        for path in paths
        for finding in findings(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT / folder)))
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import pickle\npickle.loads(b'')",
        "import pickle as p\np.load(f)",
        "from pickle import Unpickler",
        "import yaml\nyaml.load(text, yaml.SafeLoader)",
        "from yaml import FullLoader",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "eval('1')",
        "exec(code)",
        "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import importlib\nimportlib.import_module(name)",
        "Module.load_from_checkpoint('x')",
    ],
)
def test_audit_sees(source: str) -> None:
    assert list(findings(source, "x.py"))


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x', weights_only=True)",
        "import json\njson.load(f)",
        "network.eval()",
        "re.compile('a')",
    ],
)
def test_audit_allows(source: str) -> None:
    assert list(findings(source, "x.py")) == []
