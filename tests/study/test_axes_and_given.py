"""Sweeps, and studies from networks and masks that exist."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace

import pytest
import torch
from opened import run, study
from tiny import STUDY, report_bytes

from rebasin_lt.errors import InputError
from rebasin_lt.lit.checkpoint import load_network, network_state, read_checkpoint
from rebasin_lt.report.study.numbers import read_numbers
from rebasin_lt.report.study.sections import write_study_report
from rebasin_lt.study.checks import check_names_and_types, check_study
from rebasin_lt.study.folder import check_study_folder, claim_study
from rebasin_lt.study.outcome import read_outcome
from rebasin_lt.study.plan import plan
from rebasin_lt.study.state import State
from rebasin_lt.study.work import run_stage

# axes


RATES = {"sparse.learning_rate": [0.05, 0.1], "imp.after_prune": ["finetune", "rewind_lr"]}
SWEEP = {"imp": {"rewind_from": "1ep"}}


def test_stages_are_named_by_the_axes_that_they_depend_on() -> None:
    stages = plan(study(SWEEP, axes=RATES))
    assert Counter(stage.kind for stage in stages.values()) == {"dense": 2, "imp": 2, "match": 2, "sparse": 2 * 2 * 4}
    assert "width=1/seed=0/imp_a,imp.after_prune=rewind_lr" in stages
    cell = stages[
        "width=1/seed=0/sparse/method=lth,sparsity=0.5,rewind=0it,sparse.learning_rate=0.1,imp.after_prune=rewind_lr"
    ]
    assert cell.settings["mask"].startswith("width=1/seed=0/imp_a,imp.after_prune=rewind_lr/imp/")
    assert cell.settings["init_from"] == "width=1/seed=0/dense_a/rewind/0it.ckpt"
    assert {path for path in plan(study(SWEEP)) if "dense" in path} <= set(stages)


def test_a_sweep_is_run_reported_and_read_again(tmp_path) -> None:
    axes = {"sparse.learning_rate": [0.01, 0.1], "dense_epochs": [1, 2]}
    settings = {"methods": ["lth", "naive", "permuted"], "barrier": {"num_alphas": 3, "splits": ["test"]}}
    folder = run(study({"targets": (0.75,)}, axes=axes, **settings), tmp_path / "sweep")
    configs = [path.read_text() for path in sorted(folder.glob("**/sparse/*rate=0.01,dense_epochs=2/config.yaml"))]
    assert configs
    assert all("learning_rate: 0.01\n" in config for config in configs)
    outcome = read_outcome(folder)
    points = {f"sparse.learning_rate={rate},dense_epochs={count}" for rate in (0.01, 0.1) for count in (1, 2)}
    assert {run["axes"] for run in outcome.sparse} == points
    assert {run["axes"] for run in outcome.dense} == {"dense_epochs=1", "dense_epochs=2"}
    write_study_report(outcome, tmp_path / "report")
    text = (tmp_path / "report/report.md").read_text().replace("\\_", "_")
    for point in points:
        assert f"0.75 · 0it · {point}" in text
        assert point in (tmp_path / "report/accuracy.csv").read_text()
        assert point in (tmp_path / "report/summary.csv").read_text()
        assert point in (tmp_path / "report/paired.csv").read_text()
    again = read_numbers(tmp_path / "report")
    for name in ("dense", "pruned", "sparse", "barriers"):
        assert getattr(again, name) == getattr(outcome, name)
    write_study_report(again, tmp_path / "again")
    for path in (tmp_path / "report").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_an_axis_may_grow_and_another_axis_is_another_study(tmp_path) -> None:
    with claim_study(tmp_path / "s", study(axes={"sparse.learning_rate": [0.1]})):
        pass
    check_study_folder(tmp_path / "s", study(axes={"sparse.learning_rate": [0.05, 0.1]}))
    with pytest.raises(InputError, match=r"axes\.sparse\.learning_rate has 0\.1 there and not here"):
        check_study_folder(tmp_path / "s", study(axes={"sparse.learning_rate": [0.05]}))
    with pytest.raises(InputError, match=r"axes are sparse\.learning_rate there and none here"):
        check_study_folder(tmp_path / "s", study())


AXES = [
    ({"rate": [1]}, "axes holds 'rate', expected a setting of a stage: dense.SETTING"),
    ({"sparse": [1]}, "axes holds 'sparse', expected a setting of a stage"),
    ({"spars.learning_rate": [1]}, "axes holds 'spars.learning_rate' (did you mean sparse?), expected a setting"),
    ({"fraction": [0.5, "x"]}, "axes.fraction holds 'x', expected numbers"),
    ({"dense_epochs": [None]}, "axes.dense_epochs holds None, expected numbers"),
    ({"sparse.learning_rate": 0.1}, "axes.sparse.learning_rate is 0.1, expected a list of values"),
    ({"sparse.learning_rate": [[0.1]]}, "axes.sparse.learning_rate holds [0.1], which names folders"),
    ({"sparse.loss": ["a/b"]}, "axes.sparse.loss holds 'a/b', which names folders"),
    ({"sparse.learning_rate": []}, "axes.sparse.learning_rate is empty, expected at least one value"),
    ({"sparse.learning_rate": [0.1, 0.1]}, "axes.sparse.learning_rate is [0.1, 0.1], which holds 0.1 twice"),
    ({"dense_epochs": [0, 1]}, "recipe.dense_epochs is 0, expected at least 1"),
]


@pytest.mark.parametrize(("axes", "message"), AXES, ids=[message[:50] for _, message in AXES])
def test_an_axis_that_cannot_be_is_refused(axes, message) -> None:
    with pytest.raises(InputError) as caught:
        study(axes=axes)
    assert message in str(caught.value)


def test_values_of_an_axis_are_checked_as_settings_are() -> None:
    with pytest.raises(InputError, match=r"recipe\.sparse has no setting 'learning_rat' \(did you mean learning_rate"):
        check_names_and_types(study(axes={"sparse.learning_rat": [0.1]}))
    with pytest.raises(InputError, match=r"recipe\.sparse\.learning_rate is 'high', expected float"):
        check_names_and_types(study(axes={"sparse.learning_rate": [0.1, "high"]}))


# given


def test_a_study_from_networks_and_masks_that_exist_has_the_numbers_of_the_one_that_made_them(
    finished, tmp_path
) -> None:
    runs = finished / "width=1"
    given = {
        "a": str(runs / "seed={seed}/dense_a"),
        "b": [str(runs / f"seed={seed}/dense_b/final.ckpt") for seed in (0, 1)],
        "mask": str(runs / "seed={seed}/imp_a/imp/sparsity-{sparsity}.mask.safetensors"),
    }
    grid = replace(STUDY, given=given, barrier=None, diversity=None, methods=["lth", "permuted", "naive"])
    folder = run(grid, tmp_path / "given")
    kinds = Counter(stage.kind for stage in plan(grid).values())
    assert kinds == {"given": 6, "match": 4, "sparse": 24}
    outcome, known = read_outcome(folder), read_outcome(finished)
    assert all(run in known.sparse for run in outcome.sparse)
    assert [run["top1"] for run in outcome.dense] == pytest.approx([run["top1"] for run in known.dense])
    config = (folder / "width=1/seed=1/dense_b/config.yaml").read_text()
    assert "final.ckpt: " in config  # the hash of its tensors
    assert given["b"][1] in config
    report_bytes(folder, tmp_path / "report")


def test_a_foreign_state_dict_may_be_given_where_no_moment_is_needed(finished, tmp_path) -> None:
    state = network_state(read_checkpoint(finished / "width=1/seed=0/dense_a/final.ckpt"))
    torch.save(state, tmp_path / "a.pt")
    grid = replace(STUDY, seeds=[0], given={"a": str(tmp_path / "a.pt")}, methods=["naive"], barrier={}, diversity=None)
    check_study(grid)
    stage = plan(grid)["width=1/seed=0/dense_a"]
    assert stage.outputs == ("final.ckpt",)
    run_stage(grid, stage, tmp_path / "study")
    taken = load_network(tmp_path / "study" / stage.path / "final.ckpt")
    assert all(torch.equal(tensor, state[name]) for name, tensor in taken.network.state_dict().items())


def test_a_study_grows_without_what_it_was_given_and_takes_no_other(finished, tmp_path) -> None:
    """The originals may go or lie elsewhere, with the same content; other content is another study."""
    for name, seed in (("p0", 0), ("p1", 1)):
        shutil.copytree(finished / f"width=1/seed={seed}/dense_b", tmp_path / name)
    paths = [str(tmp_path / name) for name in ("p0", "p1")]
    small = {"barrier": None, "diversity": None, "matchers": {}}
    grid = replace(STUDY, seeds=[0], given={"b": paths[:1]}, methods=["naive"], **small)
    folder = tmp_path / "study"
    run(grid, folder)
    shutil.copytree(paths[0], tmp_path / "moved")
    check_study_folder(folder, replace(grid, given={"b": [str(tmp_path / "moved")]}))
    check_study_folder(folder, replace(grid, given={"b": paths}, seeds=[0, 1]))
    with pytest.raises(InputError, match=r"given\.b has other tensors here than .*p0 had there; choose another folder"):
        check_study_folder(folder, replace(grid, given={"b": paths[1]}))
    with pytest.raises(InputError, match="given are b there and none here; choose another folder"):
        check_study_folder(folder, replace(grid, given=None))
    shutil.rmtree(paths[0])
    grown = replace(grid, methods=["naive", "shuffled"])
    check_study_folder(folder, grown)
    state = State.of(plan(grown), folder)
    check_study(grown, done=state.done)
    with pytest.raises(InputError, match="holds neither final.ckpt nor last.ckpt"):
        check_study(grown)


def test_a_needs_the_moments_that_something_begins_from_and_no_others(finished, tmp_path) -> None:
    """Each is looked for before anything runs; those at which B is matched, or A never pruned, are none of them."""
    a = tmp_path / "a"
    shutil.copytree(finished / "width=1/seed=0/dense_a", a)
    kept = {path.stem for path in (a / "rewind").iterdir()}
    assert {"0it", "1ep"} <= kept
    small = {"barrier": None, "diversity": None, "seeds": [0], "given": {"a": str(a)}}
    matchers = {"permuted": {"at": "2ep"}}
    recipe = replace(STUDY.recipe, rewinds=("1ep",), dense_epochs=3)
    grid = replace(STUDY, recipe=recipe, methods=["lth", "permuted"], matchers=matchers, **small)
    (a / "rewind/2ep.ckpt").unlink(missing_ok=True)
    check_study(grid)
    assert plan(grid)["width=1/seed=0/dense_a"].outputs == ("final.ckpt", "rewind/1ep.ckpt")
    signed = replace(grid, methods=["lth", "lth+own@2ep"])
    pruned = replace(grid, recipe=replace(recipe, imp={"rewind_from": "2ep", "after_prune": "rewind_weights"}))
    for other in (signed, pruned):
        with pytest.raises(
            InputError, match=r"given\.a is .*, which has no rewind/2ep\.ckpt: set recipe\.rewinds, and"
        ):
            check_study(other)
    (a / "rewind/1ep.ckpt").unlink()
    with pytest.raises(InputError, match=r"given\.a is .*, which has no rewind/1ep\.ckpt"):
        check_study(grid)
    check_study(replace(grid, methods=["naive", "permuted"]))


def test_moments_of_a_given_network_may_be_added(finished, tmp_path) -> None:
    a = str(finished / "width=1/seed=0/dense_a")
    recipe = replace(STUDY.recipe, rewinds=("1ep",))
    small = {"barrier": None, "diversity": None, "seeds": [0], "matchers": {}, "recipe": recipe, "given": {"a": a}}
    grid, folder = replace(STUDY, methods=["naive"], **small), tmp_path / "study"
    for each, outputs in ((grid, 1), (replace(grid, methods=["naive", "lth"]), 2), (grid, 1)):
        stage = plan(each)["width=1/seed=0/dense_a"]
        assert len(stage.outputs) == outputs
        run_stage(each, stage, folder)
    assert (folder / stage.path / "rewind/1ep.ckpt").is_file()


GIVEN = [
    ({"c": "x"}, {}, "a name under given is 'c', which is not known: expected a, b, mask"),
    ({"a": 3}, {}, "given.a is 3, expected a path, which may hold {seed}, or one per seed"),
    ({"a": ["x"]}, {}, "given.a holds 1 paths, but seeds is [0, 1]: give one for each"),
    ({"mask": "x"}, {}, "given.mask is 'x', but given.a is not set"),
    ({"a": "x", "mask": "y"}, {}, "given.mask is 'y', but recipe.targets is [0.5, 0.8]: write {sparsity}"),
    ({"a": "x"}, {"widths": [1, 2]}, "widths is [1.0, 2.0], but given networks have one width: leave one"),
]


@pytest.mark.parametrize(("given", "more", "message"), GIVEN, ids=[message[:50] for *_, message in GIVEN])
def test_what_cannot_be_given_is_refused(given, more, message) -> None:
    with pytest.raises(InputError) as caught:
        replace(STUDY, given=given, **more)
    assert message in str(caught.value)


def test_given_files_are_compared_with_the_recipe_before_anything_runs(finished, tmp_path) -> None:
    a = str(finished / "width=1/seed=0/dense_a")
    mask = str(finished / "width=1/seed=0/imp_a/imp/sparsity-0.5.mask.safetensors")
    for given, message in (
        ({"a": str(tmp_path)}, "given.a is .*, which holds neither final.ckpt nor last.ckpt"),
        ({"a": a, "mask": str(tmp_path / "{sparsity}")}, "given.mask is .* does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            check_study(replace(STUDY, given=given))
    wider = replace(STUDY, widths=[2], given={"a": a})
    with pytest.raises(InputError, match=r"given\.a: checkpoint .* has width 1\.0, this network has 2\.0"):
        check_study(wider)
    one = replace(STUDY.recipe, targets=(0.9,))
    with pytest.raises(InputError, match=r"which has sparsity 0\.5\d*, and recipe\.targets holds 0\.9"):
        check_study(replace(STUDY, recipe=one, given={"a": a, "mask": mask}, diversity=None))
