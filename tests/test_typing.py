"""The public names as static tools see them: type checkers, and what an editor completes."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rebasin_lt as rb

ROOT = Path(__file__).parents[1]
STUB = ROOT / "rebasin_lt" / "__init__.pyi"
NAMES = [name for name in rb.__all__ if name != "__version__"]

CALLS = {
    "rb.trace_symmetry(network, torch.zeros(2, 3))": "Symmetry",
    "rb.trace_symmetry(network, torch.zeros(2, 3)).random()": "Permutation",
    "rb.Mask.ones_of(network)": "Mask",
    "rb.magnitude_prune(network, rb.Mask.ones_of(network), 0.5).sparsity": "float",
    "rb.load_network('a.ckpt').network": "Module",
    "rb.match_weights(network, network, rb.trace_symmetry(network, torch.zeros(2, 3))).permutation": "Permutation",
    "rb.loss_barrier(network, network, network, []).loss_barrier": "float",
    "rb.Classifier().net": "Module",
    "rb.read_outcome('runs/study').sparse": "list",
}
"""What some calls give."""


def program() -> str:
    """A program that has the type of every name revealed, a name a line, and of those calls, and ends in two typos."""
    lines = ["import torch", "from torch import nn", "import rebasin_lt as rb", "network = nn.Linear(3, 2)"]
    lines += [f"reveal_type({what})" for what in (*(f"rb.{name}" for name in NAMES), *CALLS)]
    return "\n".join([*lines, "rb.trace_symetry", "from rebasin_lt import match_activation", ""])


def run(module: str, *arguments: str, folder: Path) -> str:
    """What a checker says of the program, without its colours."""
    (folder / "program.py").write_text(program(), encoding="utf-8")
    command = [sys.executable, "-m", module, *arguments, "program.py"]
    known = {**os.environ, "MYPYPATH": str(ROOT), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, timeout=300).stdout


def check(revealed: dict[int, str], errors: dict[int, str]) -> None:
    lines = program().splitlines()
    types = {line: revealed[number] for number, line in enumerate(lines, 1) if line.startswith("reveal_type")}
    assert [line for line, kind in types.items() if re.search(r"\b(Any|Unknown)$|^def \(\*.*-> Any$", kind)] == []
    for call, kind in CALLS.items():
        assert re.search(rf"\b{kind}\b", types[f"reveal_type({call})"]), (call, types[f"reveal_type({call})"])
    assert sorted(errors) == [len(lines) - 1, len(lines)]
    assert "trace_symetry" in errors[len(lines) - 1]
    assert "match_activation" in errors[len(lines)]


@pytest.mark.types
def test_mypy_knows_every_name_and_refuses_a_misspelt_one(tmp_path: Path) -> None:
    options = ("--ignore-missing-imports", "--follow-imports=silent", "--cache-dir", str(ROOT / ".mypy_cache"))
    said = run("mypy", *options, folder=tmp_path)
    found = {kind: re.findall(rf"^program\.py:(\d+): {kind}: (.*)$", said, re.MULTILINE) for kind in ("note", "error")}
    check(
        {int(line): text.removeprefix("Revealed type is ").strip('"') for line, text in found["note"]},
        {int(line): text for line, text in found["error"]},
    )


@pytest.mark.types
def test_pyright_knows_every_name_and_refuses_a_misspelt_one(tmp_path: Path) -> None:
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)], "typeCheckingMode": "basic"}))
    said = run("basedpyright", "--outputjson", "--pythonpath", sys.executable, folder=tmp_path)
    found = [
        (row["severity"], row["range"]["start"]["line"] + 1, row["message"])
        for row in json.loads(said)["generalDiagnostics"]
    ]
    check(
        {line: re.sub(r'^.*? is "|"$', "", text) for kind, line, text in found if kind == "information"},
        {line: text for kind, line, text in found if kind == "error"},
    )


def test_an_editor_completes_the_public_names_and_nothing_internal() -> None:
    """jedi adds the package's own modules to whatever a package has; they are public, and the only ones added."""
    jedi = pytest.importorskip("jedi", reason="it comes with `pip install rebasin-lt[dev]`")
    script = jedi.Script("import rebasin_lt as rb\nrb.", path=ROOT / "program.py", project=jedi.Project(ROOT))
    completed = {name.name for name in script.complete(2, 3) if not name.name.startswith("_")}
    modules = {path.stem for path in (ROOT / "rebasin_lt").iterdir() if not path.stem.startswith(("_", "."))}
    assert completed - modules == set(NAMES)
    hint = jedi.Script(
        "import rebasin_lt as rb\nrb.trace_symmetry(", path=ROOT / "program.py", project=jedi.Project(ROOT)
    )
    assert [each.name for each in hint.get_signatures(2, 18)[0].params][:2] == ["model", "example_inputs"]


def test_the_names_are_those_of_the_stub() -> None:
    imported = [node.names[0] for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)]
    assert all(alias.name == alias.asname for alias in imported)
    assert sorted(alias.name for alias in imported) == sorted(NAMES)
    assert list(rb._places()) == [alias.name for alias in imported]
    assert dir(rb) == sorted(rb.__all__)


def test_star_import_brings_all_of_them() -> None:
    brought: dict[str, object] = {}
    exec("from rebasin_lt import *", brought)
    assert set(rb.__all__) <= brought.keys()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_of_a_public_name_is_annotated(name: str) -> None:
    value = getattr(rb, name)
    function = value.__init__ if inspect.isclass(value) else value
    if function in (object.__init__, Exception.__init__) or not inspect.isfunction(function):
        return
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    if function.__module__.startswith("rebasin_lt"):
        assert [each.name for each in parameters if each.annotation is each.empty] == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "rebasin_lt" / "py.typed").is_file()


def test_importing_the_package_takes_less_than_50_ms() -> None:
    """Of the processor, the least of five: others may keep it busy."""
    code = "import time; start = time.process_time(); import rebasin_lt; print(time.process_time() - start)"
    command = [sys.executable, "-c", code]
    seconds = [
        float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout) for _ in "12345"
    ]
    assert min(seconds) < 0.05
