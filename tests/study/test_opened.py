"""The experiment opened: pruning as one likes, code of one's own, sweeps, networks that exist."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from tiny import STUDY, report_bytes

from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.checkpoint import load_network, network_state, read_checkpoint
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.report.study.numbers import read_numbers
from rebasin_lt.report.study.sections import write_study_report
from rebasin_lt.storage.run_folder import finished as result_of
from rebasin_lt.study.checks import check_names_and_types, check_study
from rebasin_lt.study.folder import check_study_folder, claim_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.outcome import collect
from rebasin_lt.study.plan import KINDS, plan
from rebasin_lt.study.state import State
from rebasin_lt.study.work import run_stage

TINY = Recipe(
    network={"arch": "mlp", "num_classes": 10},
    targets=(0.5, 0.75),
    fraction=0.5,
    rewinds=("0it",),
    dense_epochs=2,
    epochs_per_round=1,
    sparse_epochs=1,
)


def study(recipe=None, **settings) -> Study:
    """One seed of A and B, pruned to two sparsities."""
    grid = {"title": "opened", "seeds": [0], "methods": ["lth", "permuted"], **settings}
    return Study(recipe=replace(TINY, **(recipe or {})), **grid)


def run(grid: Study, folder: Path) -> Path:
    check_study(grid)
    with claim_study(folder, grid):
        for stage in plan(grid).values():
            run_stage(grid, stage, folder)
    assert State.of(plan(grid), folder).done == set(plan(grid))
    return folder


def masks_of(folder: Path) -> list[Mask]:
    return [Mask.load(path) for path in sorted(folder.glob("**/imp_a*/imp/*.mask.safetensors"))]


# kinds


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "given"])  # which is below
def test_every_kind_is_planned_done_counted_and_read(finished, kind) -> None:
    stages = [stage for stage in plan(STUDY).values() if stage.kind == kind]
    outcome = collect(finished)
    assert stages
    assert KINDS[kind].does
    assert [row["path"] for row in outcome.stages if row["kind"] == kind and row["done"]] == [s.path for s in stages]
    for stage in stages:
        result = result_of(finished / stage.path)
        for name, row in KINDS[kind].read(STUDY, stage, result):
            assert row in getattr(outcome, name)
        needed = {plan(STUDY)[need].kind for need in stage.needs}
        assert needed <= set(KINDS[kind].needs)


# recipe.imp


def test_the_original_lottery_ticket_with_weight_rewinding_is_a_study(tmp_path) -> None:
    imp = {"after_prune": "rewind_weights", "rewind_from": "1ep"}
    grid = study({"imp": imp})
    assert plan(grid)["width=1/seed=0/dense_a"].outputs == ("final.ckpt", "rewind/0it.ckpt", "rewind/1ep.ckpt")
    assert "width=1/seed=0/dense_a/rewind/1ep.ckpt" in plan(grid)["width=1/seed=0/imp_a"].inputs
    folder = run(grid, tmp_path / "rewound")
    tuned = run(study({"rewinds": ("0it", "1ep")}), tmp_path / "tuned")
    first, second = masks_of(folder)
    assert first == masks_of(tuned)[0]  # the trained network's largest weights
    assert second != masks_of(tuned)[1]  # then of another training
    result = result_of(folder / "width=1/seed=0/imp_a")
    assert f"{plan(grid)['width=1/seed=0/imp_a'].inputs[1]}" in result["files"]["made_from"]
    with pytest.raises(InputError, match=r"holds another run: imp\.after_prune"):
        run_stage(study({"rewinds": ("0it", "1ep")}), plan(study({"rewinds": ("0it", "1ep")}))[
            "width=1/seed=0/imp_a"
        ], folder)  # fmt: skip


def test_without_settings_of_pruning_a_study_is_that_of_an_earlier_release(tmp_path) -> None:
    plain = study().primitives()
    assert {"axes", "given"}.isdisjoint(plain)
    assert {"imp", "module"}.isdisjoint(plain["recipe"])
    with claim_study(tmp_path / "old", study()):
        pass
    check_study_folder(tmp_path / "old", study())
    with pytest.raises(InputError, match=r"recipe\.imp\.exclude is None there"):
        check_study_folder(tmp_path / "old", study({"imp": {"exclude": ["net.0*"]}}))


NAMES = [
    ({"imp": {"after_prun": "finetune"}}, "recipe.imp has no setting 'after_prun' (did you mean after_prune?)"),
    ({"imp": {"after_prune": "rewind"}}, "recipe.imp.after_prune is 'rewind', expected"),
    ({"imp": {"targets": [0.5]}}, "recipe.imp.targets is set elsewhere in a study: leave it out"),
    ({"module": "tiny:own_network"}, "recipe.module is 'tiny:own_network', expected a subclass of LightningModule"),
    ({"module": "tiny:Own"}, "recipe.module is 'tiny:Own', which cannot be imported"),
    ({"module": "tiny:OwnModule"}, "recipe.network has no setting 'arch'"),
    ({"module": "tiny:OwnModule", "network": {}}, "recipe.dense has no setting 'learning_rate'"),
    (
        {"trainer": {"logger": {"class_path": "CSVLoger"}}},
        "recipe.trainer.logger is 'CSVLoger', expected one of ",
    ),
    (
        {"trainer": {"logger": {"class_path": "CSVLogger", "init_args": {"nam": 1}}}},
        "recipe.trainer.logger.init_args has no setting 'nam' (did you mean name?)",
    ),
    ({"trainer": {"logger": "csv"}}, "recipe.trainer.logger is 'csv', expected {class_path: CSVLogger"),
    ({"trainer": {"logger": {"class_path": "CSVLogger", "args": {}}}}, "recipe.trainer.logger has no setting 'args'"),
]


@pytest.mark.parametrize(("recipe", "message"), NAMES, ids=[message[:50] for _, message in NAMES])
def test_misspelt_settings_are_refused_before_any_work(recipe, message) -> None:
    with pytest.raises(InputError) as caught:
        check_names_and_types(study(recipe))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


LATER = [
    ({"imp": {"after_prune": "rewind_lr"}}, "imp after_prune is rewind_lr, which needs rewind_from"),
    ({"imp": {"after_prune": "rewind_lr", "rewind_from": "no.ckpt"}}, "rewind_from is 'no.ckpt', expected a moment"),
    ({"dense": {"loss": "tiny:own_los"}}, "model.loss is 'tiny:own_los', which cannot be imported"),
    ({"dense": {"loss": "tiny:STUDY"}}, "model.loss is 'tiny:STUDY', which is a Study, expected a function"),
    ({"sparse": {"loss": "tiny:own_loss", "label_smoothing": 0.1}}, "label_smoothing is 0.1, which is cross-entropy's"),
]


@pytest.mark.parametrize(("recipe", "message"), LATER, ids=[message[:50] for _, message in LATER])
def test_what_cannot_be_trained_is_refused_before_any_work(recipe, message) -> None:
    with pytest.raises(InputError) as caught:
        check_study(study(recipe))
    assert message in str(caught.value)


def test_a_moment_to_prune_from_lies_in_dense_training() -> None:
    with pytest.raises(InputError, match="moment 9ep is after the end of dense training at 2ep"):
        study({"imp": {"after_prune": "rewind_lr", "rewind_from": "9ep"}})


# loss, module, loggers


def test_a_loss_of_ones_own_trains_in_a_study_and_no_checkpoint_names_it(tmp_path) -> None:
    rate = {"learning_rate": 0.1}
    own = run(study({"dense": {**rate, "loss": "tiny:own_loss"}}, methods=["lth"]), tmp_path / "own")
    usual = run(study({"dense": rate}, methods=["lth"]), tmp_path / "usual")
    final = "width=1/seed=0/dense_a/final.ckpt"
    contents = [read_checkpoint(folder / final) for folder in (own, usual)]
    states = [network_state(content) for content in contents]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert contents[0]["hyper_parameters"] == contents[1]["hyper_parameters"]
    assert "tiny" not in repr({key: value for key, value in contents[0].items() if key != "state_dict"})


def test_a_loss_that_is_no_scalar_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(tiny, "own_loss", lambda logits, labels: logits)
    module = Classifier(loss="tiny:own_loss")
    with pytest.raises(InputError, match=r"model\.loss returned shape \(4, 10\), expected a scalar tensor"):
        module.training_step((torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)), 0)


def test_every_kind_of_stage_takes_a_module_of_ones_own(tmp_path) -> None:
    loggers = [{"class_path": "CSVLogger", "init_args": {"name": "csv"}}]
    recipe = {
        "module": "tiny:OwnModule",
        "network": {"num_classes": 10},
        **{stage: {"rate": 0.1} for stage in ("dense", "prune", "sparse")},
        "trainer": {"logger": loggers},
    }
    settings = {"barrier": {"num_alphas": 3, "splits": ["test"]}, "diversity": {"sparsities": [0.75]}}
    grid = study(recipe, seeds=[0, 1], methods=["lth", "permuted", "naive", "b_imp", "snip", "b_magnitude"], **settings)
    folder = run(grid, tmp_path / "own")
    path = "width=1/seed=1/sparse/method=permuted,sparsity=0.75,rewind=0it"
    loaded = load_network(folder / path / "final.ckpt", "tiny:OwnModule")
    assert set(loaded.mask) == {"body.weight", "head.weight"}
    assert loaded.mask == Mask.load(folder / "width=1/seed=1/match/permuted/sparsity-0.75.mask.safetensors")
    weights = dict(loaded.network.named_parameters())
    assert all(not weights[name][~kept].any() for name, kept in loaded.mask.items())
    assert (folder / path / "csv/version_0/metrics.csv").is_file()
    assert (folder / path / "metrics.jsonl").is_file()
    assert {run["setting"] for run in collect(folder).diversity} == {"dense", "imp", "lth", "permuted", "naive"}
    assert all(0 < run["top1"] <= 1 for run in collect(folder).sparse)


def test_fit_takes_a_loss_of_ones_own_and_loggers_by_class_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])
    logger = json.dumps({"class_path": "CSVLogger", "init_args": {"save_dir": "run", "name": "csv"}})
    arguments = ["--trainer.default_root_dir", "run", "--trainer.max_epochs", "5", "--trainer.logger", logger]
    assert main(["fit", "--config", "dense.yaml", *arguments, "--model.loss", "tiny:own_loss"]) == 0
    assert (tmp_path / "run/csv/version_0/metrics.csv").is_file()
    assert (tmp_path / "run/metrics.jsonl").is_file()
    assert main(["test", "--config", "run/config.yaml"]) == 0


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
    grid = study(axes=axes, methods=["lth", "naive", "permuted"], barrier={"num_alphas": 3, "splits": ["test"]})
    folder = run(grid, tmp_path / "sweep")
    configs = [path.read_text() for path in sorted(folder.glob("**/sparse/*rate=0.01,dense_epochs=2/config.yaml"))]
    assert configs
    assert all("learning_rate: 0.01\n" in config for config in configs)
    outcome = collect(folder)
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
    outcome, known = collect(folder), collect(finished)
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
