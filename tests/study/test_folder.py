"""Whose a study's folder is: it grows, and is refused to another study."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from rebasin_lt.cli import main
from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.study.folder import check_study_folder, claim_study, read_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.plan import plan

STUDY = Study(
    title="first",
    recipe=Recipe(rewinds=("0it", "1ep")),
    seeds=[0, 1],
    methods=["lth", "permuted"],
    matchers={"permuted": {}, "early": {"at": "5ep", "num_images": 100}},
    barrier={"num_alphas": 3},
)


def changed(recipe=None, **changes):
    return replace(STUDY, recipe=replace(STUDY.recipe, **(recipe or {})), **changes)


@pytest.fixture
def folder(tmp_path):
    with claim_study(tmp_path / "study", STUDY):
        pass
    return tmp_path / "study"


def test_a_folder_holds_the_study_that_claimed_it(folder):
    assert read_study(folder).primitives() == STUDY.primitives()
    before = (folder / "config.yaml").stat().st_mtime_ns
    with claim_study(folder, STUDY):
        pass
    assert (folder / "config.yaml").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [0, 1, 2]},
        {"seeds": [7, 1, 0]},
        {"widths": [1, 0.5]},
        {"methods": ["lth", "permuted", "early", "b_imp", "erk"]},
        {"matchers": {"paper": {"preset": "paper", "augment": True}, **STUDY.matchers}},
        {"seeds": [0, 1, 2], "methods": ["naive", "permuted", "lth"], "widths": [2, 1]},
    ],
    ids=str,
)
def test_a_study_may_grow(folder, changes):
    grown = changed(**changes)
    with claim_study(folder, grown):
        pass
    assert read_study(folder).primitives() == grown.primitives()
    before = plan(STUDY)
    assert {path: plan(grown)[path] for path in before} == before  # nothing is done again
    with pytest.raises(InputError, match="holds another study: .* there and not here; add to it, or choose another"):
        check_study_folder(folder, STUDY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1]}, "seeds has 0 there and not here; add to it, or choose another folder"),
        ({"seeds": [0, 2, 3]}, "seeds has 1 there and not here"),
        ({"widths": [2]}, "widths has 1.0 there and not here"),
        ({"methods": ["lth"]}, "methods has permuted there and not here"),
        (
            {"matchers": {"permuted": {}, "later": {"at": "5ep"}}},
            "matchers has early there and not here; add to it, or choose another folder",
        ),
        (
            {"matchers": {**STUDY.matchers, "permuted": {"preset": "paper"}}},
            "matchers.permuted is {} there and {'preset': 'paper'} here; choose another name, or another folder",
        ),
        (
            {"matchers": {**STUDY.matchers, "early": {"at": "5ep"}}},
            "matchers.early is {'at': '5ep', 'num_images': 100} there and {'at': '5ep'} here; choose another name",
        ),
        (
            {"matchers": {**STUDY.matchers, "later": {"at": "10ep"}}},
            "its dense networks were kept at 0it, 1ep, 5ep, this one wants 0it, 1ep, 5ep, 10ep; choose another folder",
        ),
        ({"title": "second"}, "title is first there and second here"),
        ({"recipe": {"targets": (0.9, 0.95)}}, "recipe.targets is [0.9, 0.95, 0.98] there and [0.9, 0.95] here"),
        ({"recipe": {"rewinds": ("0it",)}}, "recipe.rewinds is ['0it', '1ep'] there and ['0it'] here"),
        ({"recipe": {"dense": {"learning_rate": 0.2}}}, "recipe.dense.learning_rate is 0.1 there and 0.2 here"),
        ({"barrier": {"num_alphas": 5}}, "barrier.num_alphas is 3 there and 5 here"),
    ],
    ids=str,
)
def test_another_study_is_refused_and_leaves_the_folder_as_it_was(folder, changes, message):
    before = (folder / "config.yaml").read_bytes()
    for attempt in (check_study_folder, claim_study):
        with pytest.raises(InputError) as caught:
            attempt(folder, changed(**changes))
        assert message in str(caught.value)
        assert str(caught.value).startswith(f"output folder {folder} holds another ")
    assert (folder / "config.yaml").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml"]


def test_the_seed_that_gives_ensembles_their_mask_stays(tmp_path):
    study = changed(diversity={"sparsities": [0.9]})
    with claim_study(tmp_path / "study", study):
        pass
    check_study_folder(tmp_path / "study", replace(study, seeds=[0, 2, 1]))
    message = "diversity takes its mask from the first of seeds, which is 0 there and 2 here; add seeds behind it, or"
    with pytest.raises(InputError, match=message):
        check_study_folder(tmp_path / "study", replace(study, seeds=[2, 0, 1]))


def test_the_cells_of_a_method_may_grow_and_none_may_go(tmp_path):
    folder = tmp_path / "study"
    fewer = changed(only={"permuted": {"rewinds": ["1ep"], "sparsities": [0.9]}})
    with claim_study(folder, fewer):
        pass
    more = changed(only={"permuted": {"rewinds": ["1ep"]}})
    either = changed(only={"permuted": [{"rewinds": ["1ep"]}, {"sparsities": [0.95]}]})
    for study in (more, either, STUDY):
        with claim_study(folder, study):
            pass
        assert read_study(folder).primitives() == study.primitives()
    message = "only leaves out method=permuted,sparsity=0.9,rewind=0it of width 1, which is trained there; add it, or"
    with pytest.raises(InputError, match=message):
        check_study_folder(folder, more)


def test_nothing_is_made_where_a_look_is_enough(tmp_path):
    check_study_folder(tmp_path / "none", STUDY)
    assert not (tmp_path / "none").exists()


def test_a_folder_without_a_study_is_said_to_be_one(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path} holds no study: there is no config.yaml in it"):
        read_study(tmp_path)
    (tmp_path / "config.yaml").write_text("ckpt_a: a.ckpt\n")
    with pytest.raises(InputError, match=f"{tmp_path} holds a run that is no study: its config.yaml has no recipe"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("recipe", {"epochs": 3}, "unexpected keyword argument 'epochs'"),
        ("recipe", 3, "not iterable"),
        ("colour", "red", "unexpected keyword argument 'colour'"),
    ],
)
def test_a_file_that_holds_no_study_is_broken(folder, key, value, reason):
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, key: value}))
    with pytest.raises(BrokenFileError, match=rf"config.yaml holds no study: .*({reason})"):
        read_study(folder)


def test_what_cannot_be_a_grid_says_so_from_a_file_too(folder):
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    for seeds, message in (([], "seeds is empty"), (3, "seeds is 3, expected a list")):
        (folder / "config.yaml").write_text(yaml.safe_dump({**settings, "seeds": seeds}))
        with pytest.raises(InputError, match=message):
            read_study(folder)


def test_a_changed_yaml_over_a_folder_is_refused_by_the_command(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rebasin_lt.study.launch.run_study", lambda *_: pytest.fail("a stage was begun"))
    settings = {**STUDY.primitives(), "seeds": [0], "out": "study"}
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(settings))
    for more in ([], ["--dry-run"]):
        assert main(["study", "--config", "changed.yaml", *more]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err == (
            "rebasin-lt: error: output folder study holds another study: seeds has 1 there and not here; add to it, or "
            "choose another folder\n"
        )


@pytest.mark.parametrize(("wrong", "right"), [("metod", "method"), ("batch_siz", "batch_size")])
def test_a_misspelt_setting_over_a_folder_is_no_other_study(folder, tmp_path, monkeypatch, capsys, wrong, right):
    monkeypatch.chdir(tmp_path)
    settings = {**STUDY.primitives(), "matchers": {"permuted": {wrong: 5}}, "out": "study"}
    (tmp_path / "changed.yaml").write_text(yaml.safe_dump(settings))
    assert main(["study", "--config", "changed.yaml"]) == 2
    assert f"matchers.permuted has no setting '{wrong}' (did you mean {right}?)" in capsys.readouterr().err
