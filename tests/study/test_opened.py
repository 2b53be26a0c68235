"""The experiment opened: every kind of stage, pruning as one likes, code of one's own."""

from __future__ import annotations

import json

import pytest
import tiny
import torch
import yaml
from opened import masks_of, run, study
from tiny import STUDY

from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.lit.checkpoint import load_network, network_state, read_checkpoint
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.run_folder import finished as result_of
from rebasin_lt.study.checks import check_names_and_types, check_study
from rebasin_lt.study.folder import check_study_folder, claim_study
from rebasin_lt.study.outcome import read_outcome
from rebasin_lt.study.plan import KINDS, plan
from rebasin_lt.study.work import run_stage

# kinds


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "given"])  # which is below
def test_every_kind_is_planned_done_counted_and_read(finished, kind) -> None:
    stages = [stage for stage in plan(STUDY).values() if stage.kind == kind]
    outcome = read_outcome(finished)
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
    assert first.unsigned == masks_of(tuned)[0].unsigned  # the trained network's largest weights
    assert first != masks_of(tuned)[0]  # the signs are those of tickets that began elsewhere
    assert second.unsigned != masks_of(tuned)[1].unsigned  # then of another training
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
    with pytest.raises(InputError, match=r"recipe\.imp\.exclude is not set there"):
        check_study_folder(tmp_path / "old", study({"imp": {"exclude": ["net.0*"]}}))


NAMES = [
    ({"imp": {"after_prun": "finetune"}}, "recipe.imp has no setting 'after_prun' (did you mean after_prune?)"),
    ({"imp": {"after_prune": "rewind"}}, "recipe.imp.after_prune is 'rewind', expected"),
    ({"imp": {"targets": [0.5]}}, "recipe.imp.targets is set elsewhere in a study: leave it out"),
    ({"module": "tiny:own_network"}, "recipe.module is 'tiny:own_network', expected a subclass of LightningModule"),
    ({"module": "tiny:Own"}, "recipe.module is 'tiny:Own', which cannot be imported"),
    ({"module": "tiny:OwnModule"}, "recipe.network has no setting 'arch'"),
    ({"imp": {"after_prune": "rewind_lr"}}, "recipe.imp: imp after_prune is rewind_lr, which needs rewind_from"),
    ({"imp": {"after_prune": "rewind_lr", "rewind_from": "no.ckpt"}}, "rewind_from is 'no.ckpt', expected a moment"),
    ({"imp": {"criterion": "magnitde"}}, "'magnitde', which is not known (did you mean magnitude?)"),
    ({"imp": {"criterion": "tiny:nope"}}, "'tiny:nope', which cannot be imported"),
    ({"dense": {"loss": "tiny:own_los"}}, "recipe.dense.loss is 'tiny:own_los', which cannot be imported"),
    ({"module": "tiny:OwnModule", "network": {}}, "recipe.dense has no setting 'learning_rate'"),
    (
        {"trainer": {"logger": {"class_path": "CSVLoger"}}},
        "recipe.trainer.logger is 'CSVLoger' (did you mean CSVLogger?), expected one of ",
    ),
    (
        {"trainer": {"logger": {"class_path": "CSVLogger", "init_args": {"nam": 1}}}},
        "recipe.trainer.logger.init_args has no setting 'nam' (did you mean name?)",
    ),
    (
        {"trainer": {"logger": "CSVLoger"}},
        "recipe.trainer.logger is 'CSVLoger' (did you mean CSVLogger?), expected one",
    ),
    ({"trainer": {"logger": [3]}}, "recipe.trainer.logger is 3, expected {class_path: CSVLogger"),
    ({"trainer": {"logger": {"class_path": "CSVLogger", "args": {}}}}, "recipe.trainer.logger has no setting 'args'"),
]


@pytest.mark.parametrize(("recipe", "message"), NAMES, ids=[message[:50] for _, message in NAMES])
def test_misspelt_settings_are_refused_before_any_work(recipe, message) -> None:
    with pytest.raises(InputError) as caught:
        check_names_and_types(study(recipe))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


LATER = [
    ({"dense": {"loss": "tiny:STUDY"}}, "model.loss is 'tiny:STUDY', a Study, expected a function"),
    ({"sparse": {"loss": "tiny:own_loss", "label_smoothing": 0.1}}, "label_smoothing is 0.1, which is cross-entropy's"),
]


@pytest.mark.parametrize(("recipe", "message"), LATER, ids=[message[:50] for _, message in LATER])
def test_what_cannot_be_trained_is_refused_before_any_work(recipe, message) -> None:
    with pytest.raises(InputError) as caught:
        check_study(study(recipe))
    assert message in str(caught.value)


def test_a_mask_to_prune_from_is_compared_with_the_network_before_any_work(tmp_path) -> None:
    Mask({"other.weight": torch.ones(2, 2, dtype=torch.bool)}).save(tmp_path / "other.mask.safetensors")
    with pytest.raises(InputError, match=r"recipe\.imp\.mask: mask names other\.weight"):
        check_study(study({"imp": {"mask": str(tmp_path / "other.mask.safetensors")}}))


def test_splits_of_a_barrier_are_known_before_any_work() -> None:
    with pytest.raises(InputError, match=r"one of barrier\.splits is 'tst', which is not known \(did you mean test"):
        check_names_and_types(study(barrier={"splits": ["tst"]}))


@pytest.mark.parametrize("path", ["lightning.pytorch.loggers.CSVLogger", "CSVLogger"])
def test_a_command_line_and_python_write_one_study(path, tmp_path, capsys) -> None:
    """Loggers by any spelling, and axes as an option: nothing is filled in, nothing taken for a list."""
    logger = {"class_path": path, "init_args": {"name": "csv"}}
    grid = study({"trainer": {"logger": logger}}, axes={"sparse.learning_rate": [0.1, 0.2]})
    with claim_study(tmp_path / "s", grid):
        pass
    written = {**grid.primitives(), "out": str(tmp_path / "s")}
    axes = json.dumps(written.pop("axes"))
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    arguments = ["--config", str(tmp_path / "s.yaml"), "--axes", axes, "--dry_run", "--probe=false"]
    assert main(["study", *arguments]) == 0, capsys.readouterr().err
    assert "sparse.learning_rate=0.2" in capsys.readouterr().out


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
        "targets": (0.75,),
        "trainer": {"logger": loggers},
    }
    settings = {"barrier": {"num_alphas": 3, "splits": ["test"]}, "diversity": {"sparsities": [0.75]}}
    grid = study(recipe, seeds=[0, 1], methods=["lth", "permuted", "naive", "b_imp", "snip", "b_magnitude"], **settings)
    folder = run(grid, tmp_path / "own")
    path = "width=1/seed=1/sparse/method=permuted,sparsity=0.75,rewind=0it"
    loaded = load_network(folder / path / "final.ckpt", "tiny:OwnModule")
    assert set(loaded.mask) == {"body.weight", "head.weight"}
    assert loaded.mask == Mask.load(folder / "width=1/seed=1/match/permuted/sparsity-0.75.mask.safetensors").unsigned
    weights = dict(loaded.network.named_parameters())
    assert all(not weights[name][~kept].any() for name, kept in loaded.mask.items())
    logged = (folder / path / "csv/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"learning_rate", "mask/sparsity", "mask/layer_sparsity/body.weight", "test/top1"} <= set(logged)
    assert yaml.safe_load((folder / path / "csv/version_0/hparams.yaml").read_text())["rate"] == 0.1
    assert (folder / path / "metrics.jsonl").is_file()
    assert {run["setting"] for run in read_outcome(folder).diversity} == {"dense", "imp", "lth", "permuted", "naive"}
    assert all(0 < run["top1"] <= 1 for run in read_outcome(folder).sparse)


def test_fit_takes_a_loss_of_ones_own_and_loggers_by_class_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])
    logger = json.dumps({"class_path": "CSVLogger", "init_args": {"save_dir": "run", "name": "csv"}})
    arguments = ["--trainer.default_root_dir", "run", "--trainer.max_epochs", "5", "--trainer.logger", logger]
    assert main(["fit", "--config", "dense.yaml", *arguments, "--model.loss", "tiny:own_loss"]) == 0
    assert (tmp_path / "run/csv/version_0/metrics.csv").is_file()
    assert (tmp_path / "run/metrics.jsonl").is_file()
    assert main(["test", "--config", "run/config.yaml"]) == 0
