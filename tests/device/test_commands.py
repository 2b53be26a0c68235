"""A study of two networks, and commands on what it trained, on the pretended device: files and numbers of the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerator import TRAINER, accelerated
from pretended import NAME
from small import CPU, differences

from rebasin_lt.cli import main
from rebasin_lt.commands.lightning_verbs import run
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.study.folder import claim_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.plan import plan
from rebasin_lt.study.work import run_stage
from rebasin_lt.symmetry.permutation import Permutation

DENSE = ("width=1/seed=0/dense_a", "width=1/seed=0/dense_b")


def done(folder: Path, trainer: dict[str, Any]) -> Path:
    """Two dense networks, one of them pruned, and its ticket trained from its rewind point."""
    study = Study(
        title="two stages",
        recipe=Recipe(
            network={"arch": "mlp", "num_classes": 10},
            data={"name": "digits", "batch_size": 50, "train_size": 200},
            targets=(0.5,),
            fraction=0.5,
            rewinds=("2it",),
            dense_epochs=1,
            epochs_per_round=1,
            sparse_epochs=1,
            trainer=trainer,
        ),
        seeds=[0],
        methods=["lth", "naive"],
        barrier=None,
        diversity=None,
    )
    with claim_study(folder, study):
        for stage in plan(study).values():
            run_stage(study, stage, folder)
    return folder


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> dict[str, Path]:
    """The same study on the CPU and on the pretended device; for reading."""
    root = tmp_path_factory.mktemp("studies")
    cpu = done(root / "cpu", CPU)
    with accelerated():
        return {"cpu": cpu, NAME: done(root / NAME, TRAINER)}


def content(folder: Path) -> dict[str, Any]:
    """Every tensor in every file below a folder, and the numbers of the results."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".ckpt":
            found[name] = torch.load(path, weights_only=True, map_location="cpu")
        elif path.name.endswith(".mask.safetensors"):
            found[name] = dict(Mask.load(path).content)
        elif path.name.endswith(".perm.safetensors"):
            found[name] = dict(Permutation.load(path))
    return found


def test_study_is_that_of_the_cpu(studies) -> None:
    found = content(studies[NAME])
    assert not differences(found, content(studies["cpu"]))
    assert sum(name.endswith(".ckpt") for name in found) > 8
    results = sorted(studies["cpu"].rglob("result.json"))
    assert len(results) >= 5
    for path in results:
        ours, theirs = (json.loads((root / path.relative_to(studies["cpu"])).read_text()) for root in studies.values())
        assert ours.get("metrics") == theirs.get("metrics")


COMMANDS = {
    "permute": ["--num-alphas", "3", "--masks", "{imp}"],
    "barrier": ["--num-alphas", "3", "--splits", "test"],
    "control": ["--kind", "snip", "--ckpt", "{b}", "--mask", "{imp}", "--num-images", "100"],
    "diversity": ["--checkpoints", "one={a}", "two={b}"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_command_gives_what_it_gives_on_the_cpu(command, studies, tmp_path, capsys) -> None:
    root = studies["cpu"]
    a, b = (str(root / dense / "final.ckpt") for dense in DENSE)
    imp = str(next(root.rglob("imp/sparsity-0.5.mask.safetensors")))
    pair = ["--ckpt-a", a, "--ckpt-b", b] if command in {"permute", "barrier"} else []
    given = [command, *pair, *(text.format(a=a, b=b, imp=imp) for text in COMMANDS[command])]
    name = "control.mask.safetensors" if command == "control" else "out"
    printed = {}
    for device in ("cpu", NAME):
        (tmp_path / device).mkdir()
        arguments = [*given, "--device", device, "--out", str(tmp_path / device / name)]
        if device == NAME:
            with accelerated():
                assert main(arguments) in (None, 0)
        else:
            assert main(arguments) in (None, 0)
        printed[device] = capsys.readouterr().out.replace(str(tmp_path / device), "")
    assert printed[NAME] == printed["cpu"]
    if command in {"permute", "control"}:
        assert not differences(content(tmp_path / NAME), content(tmp_path / "cpu"))


FIT = {"model": "Classifier", "data": "Digits", "data.train_size": 300, "trainer.max_epochs": 1}


def fit_command(verb: str, trainer: dict[str, Any], folder: Path) -> None:
    given = {**FIT, "trainer.default_root_dir": folder, **{f"trainer.{name}": value for name, value in trainer.items()}}
    run([verb, *(f"--{name}={value}" for name, value in given.items())])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fit") / "run"
    fit_command("fit", CPU, folder)
    return folder


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluation_gives_what_it_gives_on_the_cpu(verb, trained, capsys) -> None:
    printed = []
    for trainer in (CPU, TRAINER):
        capsys.readouterr()
        with accelerated():
            fit_command(verb, trainer, trained)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0] or verb == "predict"
