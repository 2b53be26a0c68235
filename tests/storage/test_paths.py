"""A path is read once: however it is written it is one place, and the same command again finds what it left there."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml

from rebasin_lt.cli import COMMANDS, main
from rebasin_lt.errors import InputError
from rebasin_lt.lit.callbacks.dynamic_sparse_training import DynamicSparseTraining
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.checkpoint import read_checkpoint
from rebasin_lt.lit.data.image_folder import ImageFolder
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.paths import PATHS, expanded, with_paths_expanded
from rebasin_lt.storage.run_folder import check_folder, claim_folder
from rebasin_lt.symmetry.permutation import Permutation

SPELLINGS = {
    "absolute": "{home}/runs/{name}",
    "home": "~/runs/{name}",
    "variable": "$PLACE/{name}",
    "braces": "${{PLACE}}/{name}",
    "slashes": "{home}//runs/./{name}",
    "relative": "runs/{name}",
    "dot": "./runs/{name}",
    "parent": "{home}/runs/other/../{name}",
    "link": "{home}/link/{name}",
    "parent of a link": "{home}/deep/../{name}",
}
"""Of `HOME/runs/NAME`; `link` leads to runs, and `deep` to runs/other, so that what lies above it is not HOME."""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    (tmp_path / "runs" / "other").mkdir(parents=True)
    (tmp_path / "link").symlink_to("runs")
    (tmp_path / "deep").symlink_to("runs/other")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(spelling: str, home: Path, name: str) -> str:
    return SPELLINGS[spelling].format(home=home, name=name)


def files(home: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below home, and when and as what it was written."""
    found = (path for path in home.rglob("*") if "tfevents" not in path.name and path.name != "run.yaml")
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in found if path.is_file()}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("end", ["", "/"])
def test_every_spelling_is_the_same_place(home, spelling, end):
    place = expanded(written(spelling, home, "a") + end)
    assert os.path.realpath(place) == str(home / "runs" / "a")
    assert os.path.realpath(os.path.normpath(os.path.expanduser(place))) == str(
        home / "runs" / "a"
    )  # as Lightning does
    assert expanded(place) == place


@pytest.mark.parametrize("path", ["last", "10ep", "", "s3://bucket/../x", "runs/*/x", "runs/a=b,c"])
def test_what_needs_no_reading_stays(home, path):
    assert expanded(path) == path


@pytest.mark.parametrize(
    ("path", "unknown"), [("$NOPE/a", "$NOPE"), ("a/${NOPE}", "${NOPE}"), ("~nobody-here/a", "~nobody-here")]
)
def test_what_is_not_known_is_refused(home, path, unknown):
    line = re.escape(f"out is {path!r}, but {unknown} is not known here: set it, or write the path out")
    with pytest.raises(InputError, match=line):
        expanded(path, "out")
    (home / "$NOPE").mkdir()
    assert expanded("$NOPE") == "$NOPE"  # it may be the name of what is there


@pytest.fixture
def sources(home):
    """A mask and weights to start from, and a configuration that writes every path in one spelling."""
    torch.manual_seed(0)
    state = build_network("mlp", num_classes=10).state_dict()
    torch.save(state, home / "runs" / "init.pt")
    Mask({name: torch.rand(w.shape) < 0.5 for name, w in state.items() if w.ndim > 1}).save(home / "runs" / "m.mask")

    def configuration(spelling: str) -> str:
        paths = {"mask": written(spelling, home, "m.mask"), "init_from": written(spelling, home, "init.pt")}
        settings = {
            "model": {"class_path": "MaskedClassifier", "init_args": {"arch": "mlp", **paths}},
            "data": {"class_path": "Digits", "init_args": {"batch_size": 500, "root": written(spelling, home, "data")}},
            "trainer": {"accelerator": "cpu", "max_epochs": 1, "default_root_dir": written(spelling, home, "a")},
        }
        settings["trainer"]["callbacks"] = [
            {"class_path": "RewindCheckpoint", "init_args": {"at": ["1ep"], "dirpath": written(spelling, home, "kept")}}
        ]
        (home / "run.yaml").write_text(yaml.safe_dump(settings))
        return str(home / "run.yaml")

    return configuration


@pytest.mark.parametrize("first", ["home", "parent of a link"])
def test_a_run_is_one_folder_and_trains_once_however_its_paths_are_written(home, sources, first, capsys):
    assert main(["fit", "--config", sources(first)]) == 0
    left = files(home)
    assert {Path(path).parent for path in left} == {home / "runs", home / "runs" / "a", home / "runs" / "kept"}
    for spelling in SPELLINGS:
        assert main(["fit", "--config", sources(spelling)]) == 0, capsys.readouterr().err
        changed = {path for path, state in files(home).items() if left.get(path) != state}
        assert changed <= {str(home / "runs" / "a" / "metrics.jsonl")}, spelling
    assert main(["test", "--config", sources("variable"), "--ckpt_path", "~/runs/a/last.ckpt"]) == 0


@pytest.mark.parametrize("first", ["variable", "link"])
def test_our_own_commands_write_to_one_place(home, sources, first, capsys):
    sources(first)
    left = None
    for spelling in [first, *SPELLINGS]:
        mask, out = written(spelling, home, "m.mask"), written(spelling, home, "control.mask")
        assert main(["control", "--kind", "shuffled", "--mask", mask, "--out", out]) == 0, capsys.readouterr().err
        left = left or files(home)
        assert files(home) == left, spelling
    assert str(home / "runs" / "control.mask") in left


def test_a_folder_of_another_place_is_still_refused(home):
    claim_folder("runs/x", {"model": {"mask": "runs/m.mask"}})
    check_folder("runs/x", {"model": {"mask": f"{home}/link/m.mask"}})
    with pytest.raises(InputError, match=r"model.mask is runs/m.mask there and \$NOPE/m.mask here"):
        check_folder("runs/x", {"model": {"mask": "$NOPE/m.mask"}})


def test_paths_are_found_wherever_they_stand(home):
    settings = {
        "recipe": {"data": {"name": "~/no path", "root": "~/data"}},
        "mask": ("~/a", "$PLACE/b"),
        "callbacks": [{"init_args": {"dirpath": "~/c", "at": ["~"]}}],
        "root": None,
    }
    assert with_paths_expanded(settings) == {
        "recipe": {"data": {"name": "~/no path", "root": f"{home}/data"}},
        "mask": (f"{home}/a", f"{home}/runs/b"),
        "callbacks": [{"init_args": {"dirpath": f"{home}/c", "at": ["~"]}}],
        "root": None,
    }


def test_python_takes_them_too(home):
    assert ImageFolder(root="~/images").root == f"{home}/images"
    for made in (
        RewindCheckpoint(["0it"], dirpath="~/x"),
        IterativeMagnitudePruning([0.5], 1, dirpath="~/x"),
        DynamicSparseTraining(sparsity=0.5, dirpath="~/x"),
    ):
        assert (made.dirpath or made._given_dirpath) == home / "x"
    for read in (read_checkpoint, Mask.load, Permutation.load):
        with pytest.raises(InputError, match=f"{home}/nothing does not exist"):
            read("~/nothing")


@pytest.mark.parametrize("kind", [Mask, Permutation])
def test_what_python_writes_lies_where_it_reads_it(home, kind):
    """And not in a folder that is called `~`."""
    made = Mask({"weight": torch.tensor([True])}) if kind is Mask else Permutation({"group": torch.tensor([1, 0])})
    for place in ("~/made", "$PLACE/made"):
        made.save(place)
        assert kind.load(place).hash == made.hash if kind is Mask else list(kind.load(place)) == list(made)
    assert {path.name for path in home.iterdir()} == {"runs", "link", "deep", "made"}


_NO_PATHS = {
    "checkpoints",
    "data",
    "given",
    "kind",
    "methods",
    "model",
}  # some are read where they are used


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_that_names_a_file_or_folder_is_a_path(command):
    record = COMMANDS[command]
    docs = "\n".join(inspect.getdoc(base) or "" for kind in record.classes for base in kind.__mro__)
    help = dict(re.findall(r"^ {4}(\w+): (.*)$", docs, re.MULTILINE))
    assert help
    for name, text in help.items():
        texts = record.types[name] in (str, str | None, tuple[str, ...], Sequence[str])
        if texts and name not in _NO_PATHS and re.search(r"\b(folder|files?|checkpoints?)\b", text):
            assert name in PATHS, name
