"""`ensemble`: a study of its diversity alone, with networks and a mask that are given or trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from opened import launched_here

from rebasin_lt.cli import main
from rebasin_lt.experiment import stages
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.run_folder import finished
from rebasin_lt.study.folder import claim_study, read_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.plan import plan
from rebasin_lt.study.work import run_stage

RECIPE = {"targets": [0.5], "fraction": 0.5, "dense_epochs": 2, "epochs_per_round": 1, "sparse_epochs": 1}
SETTINGS = ["dense", "imp", "lth", "permuted", "naive"]
PLACE = "width=1/diversity/sparsity=0.5,rewind=1ep,members=2"


@pytest.fixture(scope="module", autouse=True)
def _here():
    with launched_here():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a study whose grid has methods and diversity, done stage by stage in this process."""
    folder = tmp_path_factory.mktemp("study") / "out"
    recipe = Recipe(**{name: tuple(value) if isinstance(value, list) else value for name, value in RECIPE.items()})
    study = Study("methods too", recipe, seeds=[0, 1], methods=["naive", "permuted"], diversity={})
    with claim_study(folder, study):
        for stage in plan(study).values():
            run_stage(study, stage, folder)
    return folder


def run(tmp_path: Path, *more: str, recipe: dict = RECIPE, members: str = "2") -> int:
    """The command in a folder of its own, `out`."""
    config = tmp_path / "ensemble.yaml"
    config.write_text(yaml.safe_dump({"recipe": recipe}))
    asked = ["--members", members] if members else []
    return main(["ensemble", "--config", str(config), "--out", str(tmp_path / "out"), *asked, *more])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("alone")
    assert run(tmp_path) == 0
    return tmp_path / "out"


def test_the_command_and_a_study_of_the_same_question_have_the_same_folders_and_numbers(trained, alone) -> None:
    ours, theirs = ({**finished(folder / PLACE), "files": None} for folder in (alone, trained))
    assert list(ours["settings"]) == SETTINGS
    assert ours["num_images"] == 500
    assert ours == theirs
    here, there = plan(read_study(alone)), plan(read_study(trained))
    assert {path: there[path] for path in here} == here
    assert not [path for path in there if path.endswith("seed=1/imp_a") and path in here]  # one A, one mask of A
    for path in here:
        config, other = ((folder / path / "config.yaml").read_text() for folder in (alone, trained))
        config, other = config.replace(str(alone), ""), other.replace(str(trained), "")
        assert yaml.safe_load(config) == yaml.safe_load(other), path


def test_given_networks_and_mask_are_used_as_they_are(trained, tmp_path, capsys) -> None:
    a = trained / "width=1/seed=0"
    dense = [str(trained / f"width=1/seed={seed}/dense_b") for seed in (0, 1)]
    mask = stages.mask_file(a / "imp_a", 0.5)
    assert run(tmp_path, "--dense-a", str(a / "dense_a"), "--mask", str(mask), "--dense", *dense, members="") == 0
    here = tmp_path / "out" / PLACE
    assert finished(here)["settings"] == finished(trained / PLACE)["settings"]
    assert Mask.load(tmp_path / "out/width=1/seed=0/imp_a/imp/sparsity-0.5.mask.safetensors") == Mask.load(mask)
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[1:] if " ± " in line] == [
        *("dense", "IMP", "LTH", "permuted", "naive")
    ]
    for name in ("table.csv", "diversity.svg", "diversity.png"):
        assert str(tmp_path / "out/report" / name) in printed
        assert (tmp_path / "out/report" / name).stat().st_size > 0


def test_members_are_what_the_settings_say(alone) -> None:
    study = read_study(alone)
    members = plan(study)[PLACE].settings["members"]
    own = Mask.load(stages.mask_file(alone / "width=1/seed=0/imp_a", 0.5)).unsigned
    masks = {name: [load_network(alone / path).mask for path in paths] for name, paths in members.items()}
    assert masks["lth"] == [own, own] == masks["naive"]
    assert own not in masks["permuted"]
    assert masks["permuted"][0] != masks["permuted"][1]
    assert masks["dense"] == [None, None]
    assert own not in masks["imp"]
    for name in ("imp", "lth", "permuted", "naive"):
        for path, mask in zip(members[name], masks[name], strict=True):
            weights = dict(load_network(alone / path).network.named_parameters())
            assert mask.sparsity == pytest.approx(0.5, abs=1e-3)
            assert all(not weights[key][~kept].any() for key, kept in mask.items())


def test_ensembles_of_an_earlier_release_are_refused_in_one_line(tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "config.yaml").write_text("out: out\nmembers: 4\nrecipe: {targets: [0.95]}\ndense_a: null\n")
    assert main(["ensemble", "--out", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "holds ensembles of an earlier release" in error
    assert error.count("\n") == 1


def test_runs_of_fit_are_found_by_their_last_checkpoint(tmp_path) -> None:
    assert stages.trained_file(tmp_path) is None
    (tmp_path / "last.ckpt").touch()
    assert stages.trained_file(tmp_path) == tmp_path / "last.ckpt"
    (tmp_path / "final.ckpt").touch()
    assert stages.trained_file(tmp_path) == tmp_path / "final.ckpt"


REFUSED = [
    ({}, {"members": "1"}, "--members is 1, expected at least 2"),
    ({}, {"more": ["--mask", "m"]}, "needs --dense-a: the run of the dense network that it was pruned from"),
    ({"targets": [1.5]}, {}, "expected sparsities between 0 and 1"),
    ({"rewinds": ["3ep"]}, {}, "moment 3ep is after the end of dense training at 2ep"),
    ({"data": {"name": "digit"}}, {}, "did you mean digits"),
    ({"prune": {"rate": 1}}, {}, "recipe.prune has no setting 'rate'"),
    ({"network": {"arch": "mlp", "width": 2}}, {}, "has width 1.0, this network has 2.0"),
    ({"rewinds": ["2ep"]}, {}, "has no rewind/2ep.ckpt: set recipe.rewinds, and moments"),
    ({}, {"a": "."}, "holds neither final.ckpt nor last.ckpt: give a finished dense run"),
    ({"targets": [0.9]}, {}, "and recipe.targets holds 0.9, to which the others are pruned"),
]


@pytest.mark.parametrize(("recipe", "more", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_cannot_be_is_refused_before_anything_is_written(trained, tmp_path, capsys, recipe, more, message) -> None:
    a = trained / "width=1/seed=0"
    given = ["--dense-a", str(a / more.get("a", "dense_a")), "--mask", str(stages.mask_file(a / "imp_a", 0.5))]
    given = more.get("more", given)
    assert run(tmp_path, *given, recipe={**RECIPE, **recipe}, members=more.get("members", "2")) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_result_says_how_each_member_was_tested(alone) -> None:
    members = plan(read_study(alone))[PLACE].settings["members"]
    found = finished(alone / PLACE)["settings"]
    for name in ("dense", "lth", "permuted", "naive"):
        tested = [
            json.loads((alone / path).with_name("result.json").read_text())["test/top1"] for path in members[name]
        ]
        assert [100 * value for value in found[name]["member_accuracy"]] == pytest.approx(tested)
