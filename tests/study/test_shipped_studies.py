"""The shipped studies: each is planned as its header says, without its data, and a mistake in one is a line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from shipped_studies import RESULTS, STUDIES, read

from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.image_folder import ImageFolder
from rebasin_lt.report.study.setting import Setting
from rebasin_lt.settings.config_files import find_config
from rebasin_lt.storage.strict_yaml import read_yaml
from rebasin_lt.study.checks import check_study
from rebasin_lt.study.plan import plan


def test_every_table_of_the_paper_has_a_study():
    names = {"digits", "resnet20_cifar10", "resnet20_cifar100", "vgg11_cifar10", "resnet50_imagenet"}
    names |= {"resnet20_svhn", "early_matching", "diversity", "digits_signs"}
    assert {f"studies/{name}.yaml" for name in names} == set(STUDIES)


@pytest.mark.parametrize("name", [*STUDIES, *RESULTS])
def test_a_dry_run_needs_no_data_and_costs_what_the_header_says(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "--config", name, "--dry-run", "--probe", "false"]) == 0
    printed = capsys.readouterr().out
    stages = plan(read(name))
    lines = [line for line in printed.splitlines() if line.startswith("to do ")]
    assert [line.split()[-1] for line in lines] == list(stages)
    epochs = f"{sum(stage.epochs for stage in stages.values()):,}"
    sparse = f"{sum(stage.epochs for stage in stages.values() if stage.kind == 'sparse'):,}"
    total = printed.splitlines()[-1].split()
    assert total[:3] == ["all", "0", str(len(stages))]
    assert total[4] == epochs
    head = Path(find_config(name)).read_text(encoding="utf-8").split("\nout:")[0].replace("\n# ", " ")
    assert f"Cost: {len(stages):,} stages, {epochs} epochs (" in head
    assert f"{sparse} sparse)" in head
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [*STUDIES, *RESULTS])
def test_a_header_says_what_to_run_what_to_expect_and_where_it_departs(name):
    head = Path(find_config(name)).read_text(encoding="utf-8").split("\nout:")[0]
    settings = read_yaml(find_config(name))
    assert f"\n#   rebasin-lt study --config {name}\n#   rebasin-lt report {settings['out']}\n" in head
    assert "\n# Expect " in head
    assert "\n# Departs from the paper: " in head
    assert all(line.startswith("# ") for line in head.splitlines())


@pytest.mark.parametrize("name", [*STUDIES, *RESULTS])
def test_every_setting_is_one_that_its_stages_take(name, monkeypatch):
    """Networks are built a quarter as wide: nothing depends on it."""
    monkeypatch.setattr(ImageData, "setup", lambda *_: None)
    monkeypatch.setattr(ImageData, "sweep", lambda *_, **__: None)
    monkeypatch.setattr(ImageFolder, "num_classes", 10)  # counts folders
    check_study(replace(read(name), widths=[0.25]), here=False)


def test_what_the_header_of_cifar10_calls_a_beginning():
    study = replace(read("studies/resnet20_cifar10.yaml"), widths=[1], seeds=[0], methods=["lth", "permuted", "naive"])
    assert sum(stage.epochs for stage in plan(study).values()) == 400 + 950 + 3 * 4 * 1014 == 13_518


def test_the_numbers_of_the_paper_stand_beside_what_repeats_it():
    """Every study of a table of the paper has cells for which it published a value, for all three methods."""
    for name in sorted({*STUDIES} - {"studies/digits.yaml", "studies/digits_signs.yaml"}):
        study = read(name)
        setting = Setting.of(study.primitives())
        assert setting.as_published, name
        for method in ("naive", *setting.as_published):
            sparsity, rewind = study.recipe.targets[0], study.recipe.rewinds[-1]
            assert setting.published(study.widths[0], sparsity, rewind, method) is not None, (name, method)
    early = read("studies/early_matching.yaml")
    setting = Setting.of(early.primitives())
    found = {method: setting.published(1, 0.9, "20ep", method) for method in early.matchers}
    assert {method: number and number.value for method, number in found.items()} == {
        "permuted": None,  # as this package matches
        "permuted_5ep": 0.8916,
        "permuted_20ep": 0.8923,
        "permuted_50ep": 0.8939,
        "permuted_100ep": 0.8931,
        "permuted_paper": 0.895,
    }


MISTAKES = [
    ("dense_epochs: 20", "dense_epoch: 20", "does not accept option 'recipe.dense_epoch'"),
    ("seeds:", "seed:", "does not accept option 'seed'"),
    ("[lth,", "[lht,", "one of methods is 'lht', which is not known (did you mean lth?)"),
    ("[0it,", "[0,", "recipe.rewinds: Expected a str. Got value: 0"),
    ("[0.8,", "[0.99,", "imp targets are [0.99, 0.9, 0.95, 0.98], expected increasing sparsities"),
    ("num_alphas: 11", "num_alpha: 11", "barrier has no setting 'num_alpha'"),
    ("num_alphas: 11", "num_alphas: 1", "barrier: --num-alphas is 1, expected at least 3"),
    ("num_alphas: 11", "num_images: 5000", "barrier: num_images is 5000, but train of digits has 1000 images"),
    ("num_alphas: 11", "num_test_images: 501", "barrier: num_images is 501, but test of digits has 500 images"),
    ("num_alphas: 11", "corrections: [bn_reset]", "barrier: --corrections holds bn_reset, which is not for a network"),
    ("num_alphas: 11", "splits: [val]", "one of barrier.splits is 'val', which is not known: expected train, test"),
    (
        "learning_rate: 0.15",
        "learning_rat: 0.15",
        "recipe.sparse has no setting 'learning_rat' (did you mean learning_rate?)",
    ),
    ("arch: mlp", "arch: mlpp", "model is 'mlpp', which is not known (did you mean mlp?)"),
    ("num_classes: 10", "num_classes: 12", "recipe.network.num_classes is 12, but data digits has 10 classes"),
    ("name: digits", "name: digit", "data is 'digit', which is not known (did you mean digits?)"),
    ("batch_size: 50", "batch_siz: 50", "recipe.data has no setting 'batch_siz' (did you mean batch_size?)"),
    (
        "permuted: {}",
        "permuted: {objectiv: raw}",
        "matchers.permuted has no setting 'objectiv' (did you mean objective?)",
    ),
    ("permuted: {}", "permuted: {num_images: many}", "matchers.permuted.num_images is 'many', expected int | None"),
    (
        "permuted: {}",
        "permuted: {method: weights}",
        "matchers.permuted: --method is 'weights', which is not known",
    ),
    ("num_alphas: 11", "num_alphas: 3.5", "barrier.num_alphas is 3.5, expected int"),
    ("learning_rate: 0.1\n", "optimizer: sdg\n", "recipe.dense.optimizer is 'sdg', expected Literal['sgd', 'adamw']"),
    ("learning_rate: 0.1\n", "arch: mlp\n", "recipe.dense.arch is set elsewhere in a study: leave it out"),
    ("batch_size: 50", "batch_size: fifty", "recipe.data.batch_size is 'fifty', expected int"),
    ("name: digits", "root: here", "data is 'None', which is not known: expected digits, "),
    (
        "arch: mlp",
        "arch: resnet20",
        "recipe.network: network resnet20 does not take the data's images of shape (1, 8, 8)",
    ),
    (
        "arch: mlp",
        "arch: 'os:system'",
        "model is 'os:system', which cannot be made with no arguments: TypeError: system()",
    ),
    ("fraction: 0.2", "fraction: 1.0e-09", "imp fraction is 1e-09, expected a number between 0 and 1, at least 0.0001"),
    ("recipe:", "slurm:\nrecipe:", "slurm is None, expected settings by name: give some, or leave it out"),
    ("recipe:", "recipe:\n  trainer: {max_epochs: 3}", "recipe.trainer.max_epochs is set elsewhere in a study"),
    (
        "recipe:",
        "recipe:\n  trainer: {accelerator: gpus}",
        "recipe.trainer.accelerator is 'gpus', which is not known (did you mean gpu?): expected auto, cpu",
    ),
    (
        "recipe:",
        "recipe:\n  trainer: {strategy: dpp}",
        "recipe.trainer.strategy is 'dpp', which is not known (did you mean ddp?): expected auto, ddp",
    ),
    (
        "recipe:",
        "recipe:\n  trainer: {devices: 2}",
        "recipe.trainer.devices is 2, but a stage has one device here: leave",
    ),
    ("recipe:", "recipe:\n  trainer: {num_nodes: 2}", "recipe.trainer.num_nodes is 2, but a stage has one device here"),
    (
        "permuted: {}",
        "permuted: {preset: papre}",
        "matchers.permuted: preset is 'papre', which is not known (did you mean paper?)",
    ),
    ("permuted: {}", "permuted: {num_images: 5000}", "matchers.permuted: num_images is 5000, but train of digits has"),
    (
        "recipe:",
        "recipe:\n  trainer: {precison: 16}",
        "recipe.trainer has no setting 'precison' (did you mean precision?)",
    ),
    (
        "recipe:",
        "recipe:\n  trainer: {accelerator: gpu}",
        "recipe.trainer.accelerator is gpu, but there is no GPU here",
    ),
    ("recipe:", "launcher: slrum\nrecipe:", "--launcher is 'slrum', which is not known (did you mean slurm?)"),
    ("recipe:", "workers: 0\nrecipe:", "--workers is 0, expected at least 1"),
    ("recipe:", "workers_per_gpu: 0\nrecipe:", "--workers-per-gpu is 0, expected at least 1"),
    (
        "recipe:",
        "slurm: {options: [partition=gpu]}\nrecipe:",
        "slurm.options holds 'partition=gpu', expected options of",
    ),
    ("recipe:", "seeds: [7]\nrecipe:", "key 'seeds' is there twice"),
]


@pytest.mark.parametrize(("right", "wrong", "text"), MISTAKES, ids=[mistake[1] for mistake in MISTAKES])
def test_a_mistake_in_a_study_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys, right, wrong, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rebasin_lt.study.launch.run_study", lambda *_: pytest.fail("a stage was begun"))
    digits = Path(find_config("studies/digits.yaml")).read_text(encoding="utf-8")
    assert digits.count(right) >= 1
    Path("study.yaml").write_text(digits.replace(right, wrong, 1), encoding="utf-8")
    assert main(["study", "--config", "study.yaml"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rebasin-lt: error: ")
    assert captured.err.count("\n") == 1
    assert text in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_a_dry_run_refuses_what_no_stage_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    imagenet = Path(find_config("studies/resnet50_imagenet.yaml")).read_text(encoding="utf-8")
    Path("study.yaml").write_text(imagenet.replace("precision: bf16-mixed", "precision: bf61-mixed"), encoding="utf-8")
    assert main(["study", "--config", "study.yaml", "--dry-run", "--probe", "false"]) == 2
    assert "recipe.trainer.precision is 'bf61-mixed', expected " in capsys.readouterr().err


def test_a_dry_run_refuses_a_network_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    digits = Path(find_config("studies/digits.yaml")).read_text(encoding="utf-8")
    Path("study.yaml").write_text(digits.replace("arch: mlp", "arch: nowhere.nets:Net"), encoding="utf-8")
    assert main(["study", "--config", "study.yaml", "--dry-run", "--probe", "false"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "model is 'nowhere.nets:Net', which cannot be imported" in captured.err


def test_devices_are_those_of_the_cluster_where_stages_run_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    there = replace(read("studies/digits.yaml").recipe, trainer={"accelerator": "gpu", "devices": 8, "num_nodes": 2})
    study = replace(read("studies/digits.yaml"), recipe=there)
    check_study(study, here=False)
    with pytest.raises(InputError, match="recipe.trainer.accelerator is gpu, but there is no GPU here"):
        check_study(study)
