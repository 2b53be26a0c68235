"""The share of the initial weights that a training leaves, out of the files that it wrote."""

from __future__ import annotations

import math
import shutil

import pytest
import torch
import yaml

from rebasin_lt.cli import main
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.experiment.stages import train_dense
from rebasin_lt.lit.weight_decay import NotRecorded, share_left

BATCH = 20
DENSE = {"learning_rate": 0.02, "weight_decay": 0.05, "warmup_epochs": 1}
RECIPE = Recipe(
    data={"name": "digits", "batch_size": BATCH},
    network={"arch": "mlp", "width": 0.25, "num_classes": 10},
    dense=DENSE,
    dense_epochs=4,
    rewinds=("0it",),
)


def decayed(optimiser: torch.optim.Optimizer, rates: list[float], steps: int) -> float:
    """What is left of a weight of 1 that nothing but decay moves."""
    (weight,) = optimiser.param_groups[0]["params"]
    for rate in rates:
        optimiser.param_groups[0]["lr"] = rate
        for _ in range(steps):
            weight.grad = torch.zeros_like(weight)
            optimiser.step()
    return weight.item()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    train_dense(folder, RECIPE, 0)
    return folder


def rates() -> list[float]:
    """By epoch: half in the warm-up, then a cosine over the three that are left."""
    return [0.01, *(0.02 * 0.5 * (1 + math.cos(math.pi * epoch / 3)) for epoch in range(3))]


def steps_of(path) -> int:
    return torch.load(path, weights_only=True)["global_step"] // 4


def test_it_is_that_of_weights_which_only_decay(run) -> None:
    """As torch has it without gradients, but for the few steps that momentum takes to gather speed."""
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimiser = torch.optim.SGD([weight], lr=0.02, weight_decay=0.05, momentum=0.9)
    left = decayed(optimiser, rates(), steps_of(run / "final.ckpt"))
    assert 0.1 < left < 0.5
    assert share_left(run / "final.ckpt") == pytest.approx(left, rel=0.08)


def test_adamws_decay_passes_through_no_momentum(run, tmp_path) -> None:
    path = changed(run, tmp_path, lambda content: content["hyper_parameters"].update(optimizer="adamw"))
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    left = decayed(torch.optim.AdamW([weight], lr=0.02, weight_decay=0.05), rates(), steps_of(path))
    assert left < 0.95
    assert share_left(path) == pytest.approx(left, rel=1e-3)


def test_it_is_that_of_a_fit_too(run, tmp_path) -> None:
    """The network, the data and the settings are those of the stage."""
    options = {f"--model.{name}": value for name, value in {**RECIPE.network, **DENSE}.items()}
    options |= {"--data": "Digits", "--data.batch_size": BATCH, "--trainer.max_epochs": 4}
    options |= {"--trainer.default_root_dir": tmp_path / "fit", "--model": "Classifier"}
    words = [str(word) for pair in sorted(options.items()) for word in pair]
    assert main(["fit", *words]) == 0
    assert share_left(tmp_path / "fit" / "last.ckpt") == share_left(run / "final.ckpt")


SGD = {"lr": 0.02, "weight_decay": 0.05, "momentum": 0.9, "dampening": 0}
ADAM = {"lr": 0.02, "weight_decay": 0.05, "betas": (0.9, 0.999), "decoupled_weight_decay": False}


def own(groups: list[dict], **more: object) -> dict:
    """What the checkpoint of a module of the user's own has of its optimiser."""
    optimiser = {"state": {}, "param_groups": [{**group, "params": [0]} for group in groups]}
    return {"hyper_parameters": {}, "optimizer_states": [optimiser], "lr_schedulers": [], **more}


def changed(run, folder, change) -> object:
    shutil.copytree(run, folder / "run")
    path = folder / "run" / "final.ckpt"
    content = torch.load(path, weights_only=True)
    content["rebasin_lt"].pop("decay_taken")  # as of an earlier release
    change(content)
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["rebasin_lt"].update(module="Noisy"), "has no optimiser, .*: give a last.ckpt of fit"),
        (lambda content: content.pop("hyper_parameters"), "has no optimiser"),
        (lambda content: content["hyper_parameters"].pop("milestones"), "has no optimiser"),
        (lambda content: content.update(own([SGD | {"lr": 0.1}, SGD])), "decays as Adam, or in more ways than one"),
        (lambda content: content.update(own([ADAM])), "decays as Adam, or in more ways than one"),
        (lambda content: content.update(own([SGD], lr_schedulers=[{}])), "no file has the rates of its schedule"),
        (lambda content: content.update(own([SGD | {"momentum": 1}])), "its optimiser cannot be read"),
        (lambda content: content["hyper_parameters"].update(init_from="a.ckpt"), "began from another network"),
        (lambda content: content["rebasin_lt"].update(epoch=3), "no config.yaml beside A's checkpoint says"),
    ],
)
def test_what_is_not_recorded_is_not_guessed(run, tmp_path, change, message) -> None:
    with pytest.raises(NotRecorded, match=message):
        share_left(changed(run, tmp_path, change))


@pytest.mark.parametrize(
    ("groups", "more", "share"),
    [
        ([SGD], {}, math.exp(-80 * 0.02 * 0.05 / 0.1)),
        ([SGD, SGD], {}, math.exp(-80 * 0.02 * 0.05 / 0.1)),
        ([ADAM | {"decoupled_weight_decay": True}], {}, math.exp(-80 * 0.02 * 0.05)),
        ([ADAM | {"weight_decay": 0}], {"lr_schedulers": [{}]}, 1),  # at whatever rates
    ],
)
def test_of_a_module_of_ones_own_its_optimiser_says_it(run, tmp_path, groups, more, share) -> None:
    path = changed(run, tmp_path, lambda content: content.update(own(groups, global_step=80, **more)))
    assert share_left(path) == pytest.approx(share)


@pytest.mark.parametrize("kind", ["InitFrom", "rebasin_lt.MaskGuard"])
def test_a_fit_that_began_elsewhere_is_not_guessed(run, tmp_path, kind) -> None:
    path = changed(run, tmp_path, lambda content: content.update(own([SGD], global_step=80)))
    config = {"trainer": {"max_epochs": 4, "callbacks": [{"class_path": kind}]}}
    (path.parent / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(NotRecorded, match="began from another network, or under a mask"):
        share_left(path)


@pytest.mark.parametrize("config", [None, {"trainer": {"max_epochs": -1}}, {"trainer": None}])
def test_a_folder_that_does_not_say_how_long_is_not_guessed(run, tmp_path, config) -> None:
    path = changed(run, tmp_path, lambda content: None)
    (path.parent / "config.yaml").unlink()
    if config is not None:
        (path.parent / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(NotRecorded, match="says that it is the end of a training, and how long one"):
        share_left(path)
