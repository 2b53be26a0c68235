"""Studies of methods with signs, of ensembles that they name, and of a B that stops early."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from opened import run, study
from tiny import STUDY

from rebasin_lt.errors import InputError
from rebasin_lt.experiment import stages
from rebasin_lt.lit.callbacks.resume_point import ResumePoint
from rebasin_lt.lit.callbacks.rewind_checkpoint import RewindCheckpoint
from rebasin_lt.lit.checkpoint import network_state, read_checkpoint
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.report.study.numbers import read_numbers
from rebasin_lt.report.study.sections import write_study_report
from rebasin_lt.study.checks import check_study
from rebasin_lt.study.folder import check_study_folder, read_study
from rebasin_lt.study.outcome import price_rows, read_outcome
from rebasin_lt.study.plan import plan

ROOT = "width=1/seed=0"
SIGNED = ["lth+mask", "permuted", "permuted+mask", "permuted+own@1ep", "naive+mask", "random_permutation+mask"]
SIGNED += ["opened:as_it_is+mask"]
EARLY = {"methods": [*SIGNED], "matchers": {"permuted": {"at": "1ep"}}, "early": True}


def cell(name: str, sparsity: float = 0.75) -> str:
    return f"{ROOT}/sparse/method={name},sparsity={sparsity:g},rewind=0it"


def network(path: Path) -> dict[str, torch.Tensor]:
    return network_state(read_checkpoint(path))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(other[name], tensor) for name, tensor in one.items())


# what is planned


def test_a_method_with_signs_is_a_stage_of_its_own_under_the_mask_of_the_same_without() -> None:
    stages = plan(study(methods=["permuted", "permuted+mask", "permuted+own@1ep", "lth+own", "b_imp+mask"]))
    without, ticket, own = (stages[cell(f"permuted{signs}")] for signs in ("", "+mask", "+own@1ep"))
    assert "signs" not in without.settings
    assert ticket.settings == {**without.settings, "method": "permuted+mask", "signs": "mask"}
    assert own.settings["signs"] == "own"
    assert own.settings["signs_from"] == f"{ROOT}/dense_b/rewind/1ep.ckpt"
    assert own.inputs == (*without.inputs, own.settings["signs_from"])
    assert ticket.needs == own.needs == without.needs
    assert stages[cell("lth+own")].settings["signs_from"] == f"{ROOT}/dense_a/final.ckpt"
    assert stages[cell("b_imp+mask")].settings["mask"].startswith(f"{ROOT}/imp_b/")
    assert stages[f"{ROOT}/dense_b"].outputs == ("final.ckpt", "rewind/0it.ckpt", "rewind/1ep.ckpt")


def test_signs_leave_all_other_stages_as_they_are() -> None:
    without = plan(study(methods=["lth", "permuted", "shuffled"]))
    more = plan(study(methods=["lth", "permuted", "shuffled", "permuted+mask", "shuffled+mask", "naive+own"]))
    assert without.items() <= more.items()
    assert {stage.kind for path, stage in more.items() if path not in without} == {"sparse"}


def test_ensembles_are_of_the_methods_that_the_study_names() -> None:
    settings = {"seeds": [0, 1], "diversity": {"methods": ["imp", "permuted+mask", "b_magnitude"], "sparsities": [0.5]}}
    found = plan(study(**settings))
    (ensemble,) = [stage for stage in found.values() if stage.kind == "diversity"]
    second = "width=1/diversity/member=1"
    assert list(ensemble.settings["members"]) == ["imp", "permuted+mask", "b_magnitude"]
    assert f"{second}/sparse/method=permuted+mask,sparsity=0.5,rewind=0it" in ensemble.needs
    magnitude = found[f"{second}/controls/b_magnitude"]
    assert magnitude.settings["weights"] == "width=1/seed=1/dense_b/final.ckpt"
    assert magnitude.settings["imp"] == f"{ROOT}/imp_a"
    assert not any("method=naive" in path for path in found)


def test_b_stops_at_the_last_moment_that_anything_needs() -> None:
    settings = {"rewinds": ("0it", "1ep"), "dense_epochs": 4, "imp": {"rewind_from": "3ep"}}
    found = plan(study(settings, **{**EARLY, "matchers": {"permuted": {"at": "2ep"}}}))
    b, a = found[f"{ROOT}/dense_b"], found[f"{ROOT}/dense_a"]
    assert (b.epochs, b.settings["until"]) == (2, "2ep")
    assert b.outputs == ("rewind/0it.ckpt", "rewind/1ep.ckpt", "rewind/2ep.ckpt")
    assert a.epochs == 4
    assert a.outputs == ("final.ckpt", *b.outputs, "rewind/3ep.ckpt")
    left = {f"{path}/{name}" for path, stage in found.items() for name in stage.outputs}
    assert all(set(stage.inputs) <= left for stage in found.values())


def test_own_signs_of_a_do_not_keep_b_training() -> None:
    settings = {**EARLY, "methods": ["naive", "lth+own@3ep"], "matchers": {}}
    found = plan(study({"rewinds": ("1ep",), "dense_epochs": 4}, **settings))
    a, b = found[f"{ROOT}/dense_a"], found[f"{ROOT}/dense_b"]
    assert (b.epochs, b.outputs) == (1, ("rewind/1ep.ckpt",))
    assert "rewind/3ep.ckpt" in a.outputs


def test_moments_of_signs_are_kept_whatever_the_order_of_the_methods() -> None:
    names = ["naive+own@2ep", "lth+own@1ep", "naive+own@10ep"]
    grids = [study({"dense_epochs": 12}, methods=each, matchers={}) for each in (names, names[::-1])]
    assert grids[0].kept_moments == grids[1].kept_moments == ("0it", "1ep", "2ep", "10ep")


REFUSED = [
    (
        {"matchers": {"imp": {}}, "methods": ["imp"], "diversity": {"methods": ["imp"]}, "seeds": [0, 1]},
        "diversity.methods holds 'imp', a matcher's name, but as an ensemble it is B's own",
    ),
    ({"methods": ["uniform+mask"]}, "but a mask of uniform carries no signs"),
    ({"methods": ["permutd+mask"]}, "one of methods is 'permutd', which is not known (did you mean permuted?)"),
    ({"methods": ["permuted+own@01ep"]}, "moment '01ep' names folders: write it as 1ep"),
    ({"methods": ["permuted+own@3ep"]}, "moment 3ep is after the end of dense training at 2ep"),
    ({"methods": ["lth", "lth+mask", "lth+mask"]}, "which holds lth+mask twice"),
    ({"diversity": {"methods": ["dens"]}, "seeds": [0, 1]}, "one of methods is 'dens', which is not known"),
    ({"diversity": {"methods": []}, "seeds": [0, 1]}, "diversity.methods is [], expected a list of some"),
    ({"diversity": {"methods": ["imp"] * 2}, "seeds": [0, 1]}, "diversity.methods is ['imp', 'imp'], which holds imp"),
    (
        {"diversity": {"methods": ["lth"], "matcher": "permuted"}, "seeds": [0, 1]},
        "diversity.matcher is set beside diversity.methods",
    ),
    ({"early": True}, "early is true, but matchers.permuted matches at the end of B: give it `at`, a moment"),
    ({**EARLY, "barrier": {}}, "early is true, but barrier needs B at the end of its training"),
    ({**EARLY, "methods": ["b_imp"]}, "early is true, but b_imp of methods needs B at the end of its training"),
    ({**EARLY, "methods": ["naive+own"]}, "early is true, but naive+own of methods needs B at the end"),
    ({**EARLY, "methods": ["b_magnitude"]}, "early is true, but b_magnitude of methods needs B at the end"),
    ({**EARLY, "diversity": {}, "seeds": [0, 1]}, "early is true, but dense of diversity needs B at the end"),
    ({**EARLY, "matchers": {"permuted": {"at": "5it"}}}, "early is true, but moment 5it counts steps: give epochs"),
    ({**EARLY, "given": {"b": "x"}}, "early is true, but given.b is trained already"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[message[:50] for _, message in REFUSED])
def test_what_cannot_be_is_refused_before_any_work(settings, message) -> None:
    with pytest.raises(InputError) as caught:
        study(**settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# what is run


@pytest.fixture(scope="module")
def early(tmp_path_factory) -> Path:
    """Every kind of signs, ensembles of some, and a B that stops after one of two epochs."""
    ensembles = {"methods": ["lth+mask", "permuted", "permuted+mask"]}
    grid = study({"targets": (0.75,)}, **EARLY, seeds=[0, 1], diversity=ensembles)
    return run(grid, tmp_path_factory.mktemp("signed") / "study")


def test_what_b_is_when_it_stops_is_what_it_is_there_on_its_way_to_the_end(tmp_path) -> None:
    """Bit by bit, under a schedule of the whole: weights and buffers at every moment."""
    recipe = replace(study().recipe_of(1), rewinds=("0it", "1ep", "2ep"), dense_epochs=4)
    stages.train_dense(tmp_path / "whole", recipe, 1)
    stages.train_dense(tmp_path / "early", recipe, 1, "2ep")
    for moment in recipe.rewinds:
        whole, ours = (network(stages.rewind_file(tmp_path / name, moment)) for name in ("whole", "early"))
        assert same(whole, ours)
    assert not (tmp_path / "early/final.ckpt").exists()
    stages.train_dense(tmp_path / "shorter", replace(recipe, dense_epochs=2), 1)
    other = network(tmp_path / "shorter/final.ckpt")
    assert not same(ours, other)  # a schedule of its own


def test_b_that_was_killed_before_it_stopped_goes_on_to_the_same_bits(tmp_path, monkeypatch) -> None:
    recipe = replace(study().recipe_of(1), rewinds=("1ep", "2ep"), dense_epochs=4)
    stages.train_dense(tmp_path / "once", recipe, 1, "2ep")
    written = RewindCheckpoint._write

    def killed(self, *about):
        if about[-1] == dies_at:
            raise KeyboardInterrupt
        written(self, *about)

    for dies_at in ("1ep", "2ep"):
        place = tmp_path / dies_at
        monkeypatch.setattr(ResumePoint, "_is_late", lambda _: True)
        monkeypatch.setattr(RewindCheckpoint, "_write", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            stages.train_dense(place, recipe, 1, "2ep")
        monkeypatch.undo()
        assert (place / "last.ckpt").exists()
        stages.train_dense(place, recipe, 1, "2ep")
        for moment in recipe.rewinds:
            once, again = (network(stages.rewind_file(each, moment)) for each in (tmp_path / "once", place))
            assert same(once, again)


def test_b_that_needs_no_training_takes_no_step(tmp_path) -> None:
    recipe = study({"rewinds": ("0it",)}).recipe_of(1)
    stages.train_dense(tmp_path / "none", recipe, 1, "0it")
    assert "train/" not in (tmp_path / "none/metrics.jsonl").read_text()
    stages.train_dense(tmp_path / "some", replace(recipe, dense_epochs=1), 1)
    ours, whole = (network(stages.rewind_file(tmp_path / name, "0it")) for name in ("none", "some"))
    assert same(ours, whole)


def test_sparse_training_begins_with_the_signs_that_are_asked_for(early) -> None:
    for name, signs in (("permuted", None), ("permuted+mask", "mask"), ("permuted+own@1ep", "own")):
        config = yaml.safe_load((early / cell(name) / "config.yaml").read_text())
        assert config.get("signs") == signs
    moved = Mask.load(early / ROOT / "match/permuted/sparsity-0.75.mask.safetensors")
    drawn = Mask.load(early / ROOT / "controls/random_permutation/sparsity-0.75.mask.safetensors")
    assert moved.is_signed
    assert drawn.is_signed
    trained = {name: network(early / cell(name) / "final.ckpt") for name in SIGNED}
    assert not same(trained["permuted"], trained["permuted+mask"])
    assert not same(trained["permuted"], trained["permuted+own@1ep"])
    assert same(trained["naive+mask"], trained["opened:as_it_is+mask"])  # one mask, one order of the data, one network


def test_the_report_says_all_of_it_and_can_be_written_from_its_numbers(early, tmp_path) -> None:
    outcome = read_outcome(early)
    assert {run["role"] for run in outcome.dense} == {"a"}  # what stopped is no dense network
    assert "until: 1ep\n" in (early / ROOT / "dense_b/config.yaml").read_text()
    write_study_report(outcome, tmp_path / "report")
    text = (tmp_path / "report/report.md").read_text()
    for label in ("permuted + ticket's signs", "permuted + own signs of 1ep", "LTH + ticket's signs"):
        assert label in text
    assert "Accuracy, disagreement and price" in text
    assert "beyond A, paid once: dense 2, pruning 2" in text
    prices = {(row["method"], row["rewind"]): row for row in outcome.prices}
    assert prices["permuted+mask", "0it"] == {
        **{"method": "permuted+mask", "rewind": "0it"},
        **{"dense": 1, "pruning": 0, "sparse": 1},
    }
    assert prices["lth+mask", "0it"]["dense"] == 0
    write_study_report(read_numbers(tmp_path / "report"), tmp_path / "again")
    for path in (tmp_path / "report").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_method_with_signs_may_be_added_unless_its_moment_was_not_kept(early) -> None:
    there = read_study(early)
    check_study_folder(early, replace(there, methods=[*there.methods, "naive+own@1ep"]))
    kept = "its dense networks were kept at 0it, 1ep, this one wants 0it, 1ep, 2ep"
    with pytest.raises(InputError, match=kept):
        check_study_folder(early, replace(there, methods=[*there.methods, "naive+own@2ep"]))
    with pytest.raises(InputError, match="early is True there and not set here"):
        check_study_folder(early, replace(there, early=False))


def test_masks_without_signs_are_refused_where_signs_are_asked_of_them(finished, tmp_path) -> None:
    a = finished / ROOT
    unsigned = tmp_path / "unsigned.mask.safetensors"
    Mask.load(stages.mask_file(a / "imp_a", 0.5)).unsigned.save(unsigned)
    grid = replace(STUDY, recipe=replace(STUDY.recipe, targets=(0.5,)), diversity=None, barrier=None, seeds=[0])
    given = {"a": str(a / "dense_a"), "mask": str(unsigned)}
    check_study(replace(grid, methods=["permuted"], given=given))
    with pytest.raises(InputError, match=r"unsigned\.mask\.safetensors, which carries no signs, and permuted\+mask"):
        check_study(replace(grid, methods=["permuted", "permuted+mask"], given=given))


@pytest.mark.parametrize("name", ["naive+mask", "permuted+mask", "lth+mask", "late+mask", "random_permutation+mask"])
def test_masks_of_an_earlier_release_are_looked_at_before_anything_is_trained(early, tmp_path, name) -> None:
    """A's, or moved ones, where they are there; A's, where those that are moved will be made from them."""
    grid = study({"targets": (0.75,)}, methods=["naive", "permuted"], matchers={"permuted": {"at": "1ep"}})
    done = {f"{ROOT}/dense_a", f"{ROOT}/imp_a", f"{ROOT}/match/permuted"}
    for path in done:
        shutil.copytree(early / path, tmp_path / path)
    for path in tmp_path.rglob("*.mask.safetensors"):
        Mask.load(path).unsigned.save(path)
    check_study(grid, done=done, folder=tmp_path)
    grown = replace(grid, methods=[*grid.methods, name], matchers={**grid.matchers, "late": {"at": "1ep"}})
    place = "match/permuted" if name.startswith("permuted") else "imp_a/imp"
    line = rf"{place}/sparsity-0.75.mask.safetensors carries no signs, as .*, and {re.escape(name)} begins with them: "
    with pytest.raises(InputError, match=line):
        check_study(grown, done=done, folder=tmp_path)
    check_study(grown, folder=tmp_path)  # where all of it is made anew
    check_study(grown, done={*done, *plan(grown)}, folder=tmp_path)  # where nothing is left
    own = replace(grown, methods=[*grid.methods, "naive+own@1ep", "b_imp+mask"])
    check_study(own, done=done, folder=tmp_path)


def test_what_is_given_is_not_priced() -> None:
    given = {"a": "a", "mask": "m", "b": "b"}
    rows = {
        row["method"]: row
        for row in price_rows(study({"targets": (0.5,)}, methods=["lth", "permuted"], given=given), 1000)
    }
    assert (rows["A"]["dense"], rows["A"]["pruning"]) == (None, None)
    assert (rows["lth"]["dense"], rows["lth"]["sparse"]) == (0, 1)
    assert rows["permuted"]["dense"] is None
