"""The package's structure: imports go down, the public names are there, files stay small."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

import rebasin_lt as rb

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rebasin_lt"
ROOMS = [
    "__init__",
    "errors",
    "moment",
    "process",
    "storage",
    "settings",
    "precision",
    "batches",
    "feeding",
    "judging",
    "models",
    "symmetry",
    "pruning",
    "matching",
    "connectivity",
    "diversity",
    "lit",
    "experiment",
    "analyses",
    "study",
    "report",
    "commands",
    "cli",
    "__main__",
]
"""From the ground up: each imports from those before it alone."""
PLACES = rb._places()
LIGHTNING = {"lightning", "pytorch_lightning", "lightning_fabric"}


def module_name(path: Path) -> str:
    """`rebasin_lt/lit/data/base.py` -> `rebasin_lt.lit.data.base`; a package's `__init__` keeps that name."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def imports(source: str, module: str) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import in the source, those inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            prefix = ".".join([*base, *filter(None, [node.module])])
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)


def room(name: str) -> str:
    """`rebasin_lt.<room>...`; a lazily exported name has that of the module it comes from."""
    part = name.split(".")[1] if "." in name else "__init__"
    part = PLACES.get(part, part).split(".")[0]
    return "__init__" if part.startswith("__version") else part


def violations(source: str, module: str) -> list[str]:
    """The imports that go up, and those of lightning below `lit`."""
    own, found = ROOMS.index(room(module)), []
    for line, name in imports(source, module):
        if name.split(".")[0] in LIGHTNING and own < ROOMS.index("lit"):
            found.append(f"{module}:{line} imports {name}, which only lit and what is above it may")
        elif name.split(".")[0] == "rebasin_lt" and ROOMS.index(room(name)) > own:
            found.append(f"{module}:{line} imports {name}, which is above it")
    return found


def arrows() -> dict[str, set[str]]:
    """The modules of the package that each of them imports."""
    modules = {module_name(path).removesuffix(".__init__"): path for path in source_files()}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = {name for _, name in imports(path.read_text(encoding="utf-8"), module_name(path))}
        found[module] = {part for name in names for part in (name, name.rpartition(".")[0]) if part in modules}
        found[module] -= {module, "rebasin_lt"}
    return found


def circles(arrows: Mapping[str, set[str]]) -> list[str]:
    """The members of circles: whatever reaches itself."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = arrows.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    return sorted(name for name in arrows if name in reached(name))


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_imports_go_down(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), module_name(path)) == []


def test_no_files_import_one_another_in_a_circle() -> None:
    assert circles(arrows()) == []


def test_no_folders_import_one_another_in_a_circle() -> None:
    """A folder and one within it may: what is within is a shelf of the room."""
    folders: dict[str, set[str]] = {}
    for module, imported in arrows().items():
        own = module.rpartition(".")[0]
        others = {name.rpartition(".")[0] for name in imported}
        related = {other for other in others if f"{own}.".startswith(f"{other}.") or f"{other}.".startswith(f"{own}.")}
        folders.setdefault(own, set()).update(others - related)
    assert circles(folders) == []


def test_circles_are_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_few_modules_lie_loose() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 8


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rebasin_lt.pruning.mask", "import lightning"),
        ("rebasin_lt.pruning.mask", "def f():\n    from pytorch_lightning.callbacks import Callback"),
        ("rebasin_lt.pruning.mask", "from rebasin_lt.lit.checkpoint import load_network"),
        ("rebasin_lt.pruning.mask", "import rebasin_lt.report.kit.tables"),
        ("rebasin_lt.pruning.mask", "def f():\n    from ..lit import checkpoint"),
        ("rebasin_lt.pruning.mask", "from rebasin_lt import cli"),
        ("rebasin_lt.storage.files", "from rebasin_lt.settings import signatures"),
        ("rebasin_lt.symmetry.trace", "from rebasin_lt.matching import moments"),
        ("rebasin_lt.pruning.mask", "from rebasin_lt import Classifier"),
        ("rebasin_lt.errors", "from .lit import checkpoint"),
        ("rebasin_lt.pruning.__init__", "from ..lit import checkpoint"),
        ("rebasin_lt.lit.classifier", "from rebasin_lt.study import plan"),
        ("rebasin_lt.report.kit.page", "from rebasin_lt.commands.demo import demo"),
    ],
)
def test_check_sees_an_import_that_goes_up(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rebasin_lt.lit.classifier", "import lightning\nfrom rebasin_lt.pruning.mask import Mask"),
        (
            "rebasin_lt.pruning.magnitude",
            "from rebasin_lt import Mask, __version__\nfrom .mask import Mask\nimport torch",
        ),
        ("rebasin_lt.cli", "from rebasin_lt.commands.demo import demo"),
    ],
)
def test_check_allows_what_goes_down(module: str, source: str) -> None:
    assert violations(source, module) == []


def loaded_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after the statement."""
    command = [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return {name.split(".")[0] for name in output.split()}


@pytest.mark.parametrize("statement", ["import rebasin_lt", "import rebasin_lt.cli"])
def test_importing_loads_neither_torch_nor_lightning(statement: str) -> None:
    loaded = loaded_after(statement)
    assert "rebasin_lt" in loaded
    assert not loaded & (LIGHTNING | {"torch", "torchvision", "matplotlib", "scipy"})


def test_importing_the_tables_of_names_loads_no_torch() -> None:
    tables = "matching.methods matching.objectives connectivity.corrections pruning.criteria experiment.methods"
    modules = [f"rebasin_lt.{name}" for name in f"{tables} judging.losses experiment.metrics".split()]
    assert not loaded_after(f"import {', '.join(modules)}") & (LIGHTNING | {"torch", "scipy", "matplotlib"})


@pytest.mark.parametrize("name", [name for name in rb.__all__ if name != "__version__"])
def test_public_name_resolves_where_it_is_defined(name: str) -> None:
    value = getattr(rb, name)
    assert value.__name__ == name
    assert value.__module__ == f"rebasin_lt.{PLACES[name]}"
    assert value.__doc__


def test_public_names_are_those_of_the_design() -> None:
    """Written out: a name that goes away must be missed here."""
    names = "build_network trace_symmetry Symmetry Permutation match_activations match_weights Mask magnitude_prune"
    names += " loss_barrier reset_batchnorm repair load_network Classifier MaskedClassifier"
    names += " IterativeMagnitudePruning RewindCheckpoint MaskGuard DynamicSparseTraining"
    assert set(names.split()) <= set(rb.__all__)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rebasin_lt' has no attribute 'Maks'"):
        _ = rb.Maks


@pytest.mark.parametrize(
    ("owner", "members"),
    [
        ("Symmetry", "groups axes coverage verify identity random permute"),
        ("Permutation", "inverse compose save load"),
        ("MatchResult", "permutation objective num_samples"),
        ("Mask", "ones_like sparsity report save load apply_ overlap"),
    ],
)
def test_public_class_has_its_documented_members(owner: str, members: str) -> None:
    cls = getattr(rb, owner)
    fields = {name for base in cls.__mro__ for name in getattr(base, "__annotations__", {})}
    assert set(members.split()) <= fields | set(dir(cls)) | instance_names(owner)


def instance_names(owner: str) -> set[str]:
    """Attributes that only an instance shows, where one is cheap to make."""
    if owner != "Symmetry":
        return set()
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    return set(dir(rb.trace_symmetry(network, torch.ones(1, 3))))


@pytest.mark.parametrize("path", [*source_files(), *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda path: path.name)
def test_file_is_small_and_finished(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    assert not [mark for mark in ("TO" + "DO", "FIX" + "ME", "raise NotImplemented" + "Error") if mark in text]


def test_every_package_folder_has_a_light_init() -> None:
    folders = {path.parent for path in source_files()}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    exporting = {PACKAGE, PACKAGE / "lit" / "data"}  # names that users write: `rb.Mask`, and class paths of datasets
    inits = [path for path in source_files() if path.name == "__init__.py" and path.parent not in exporting]
    assert [path for path in inits if list(imports(path.read_text(encoding="utf-8"), module_name(path)))] == []


def test_every_room_is_known() -> None:
    entries = [path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    assert sorted(entries) == sorted(ROOMS)
    assert importlib.import_module("rebasin_lt").__version__


def test_the_rooms_of_the_docs_are_those_of_the_package_in_their_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text.partition("## Rooms")[2].partition("\n## ")[0], re.MULTILINE)
    named = [name.removesuffix("/").removesuffix(".py") for row in rows for name in re.findall(r"`([\w/.]+)`", row)]
    assert named == [each for each in ROOMS if each != "__init__"]


def test_no_file_that_a_run_left_is_part_of_the_project() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not in a checkout of the repository")
    left = ("metrics.csv", "hparams.yaml", ".ckpt")
    found = [path for path in listed.stdout.split("\0") if "tfevents" in path or Path(path).name.endswith(left)]
    assert found == []
