"""`recipe.sign_in`: sparse networks of a study trained by SignIn, and studies without it as they were."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import yaml
from tiny import STUDY

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.experiment.stages import train_sparse
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.study.checks import check_names_and_types
from rebasin_lt.study.grid import Study


def with_sign_in(**settings) -> Study:
    return replace(STUDY, recipe=replace(STUDY.recipe, sign_in=settings))


def test_a_sparse_stage_trains_by_it_and_says_so(tmp_path) -> None:
    recipe = Recipe(network={"arch": "mlp", "width": 0.25, "num_classes": 10})
    torch.manual_seed(0)
    module = Classifier(width=0.25)
    about = {"format_version": 1, **module.architecture(), "data": {"name": "digits"}}
    torch.save({"state_dict": module.state_dict(), "rebasin_lt": about}, tmp_path / "init.ckpt")
    mask = Mask({name: torch.rand(w.shape) < 0.5 for name, w in module.net.named_parameters() if w.dim() == 2})
    mask.save(tmp_path / "m.mask.safetensors")
    weights, configs = {}, {}
    for name, settings in {"plain": {}, "sign_in": {"every": 2}}.items():
        files = (tmp_path / "m.mask.safetensors", tmp_path / "init.ckpt")
        train_sparse(tmp_path / name, replace(recipe, sign_in=settings), *files, seed=0, epochs=2)
        weights[name] = load_network(tmp_path / name / "final.ckpt").network.state_dict()
        configs[name] = yaml.safe_load((tmp_path / name / "config.yaml").read_text())
        assert all(not weights[name][key][~kept].any() for key, kept in mask.items())
    assert not all(torch.equal(tensor, weights["sign_in"][name]) for name, tensor in weights["plain"].items())
    assert configs["sign_in"] == {**configs["plain"], "sign_in": {"every": 2}}


def test_a_study_without_it_is_written_as_before_and_one_with_it_says_so() -> None:
    assert "sign_in" not in STUDY.primitives()["recipe"]
    assert with_sign_in(every=5).primitives()["recipe"]["sign_in"] == {"every": 5}
    check_names_and_types(with_sign_in(every=5, balance=0.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evry": 5}, r"recipe.sign_in has no setting 'evry' .did you mean every"),
        ({"every": "often"}, "recipe.sign_in.every is 'often', expected int"),
        ({"every": 0}, "recipe.sign_in: every is 0, expected a number of epochs, at least 1"),
    ],
)
def test_settings_that_it_does_not_take_are_refused(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        check_names_and_types(with_sign_in(**settings))
