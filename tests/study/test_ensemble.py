"""Ensembles from one mask: what each member is, stages run once, networks that are given, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.experiment import stages
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.checkpoint import load_network, read_checkpoint
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.run_folder import finished, read_config
from rebasin_lt.study import ensemble
from rebasin_lt.study.ensemble import Ensembles, run_ensembles

TINY = Recipe(targets=(0.5,), fraction=0.5, dense_epochs=2, epochs_per_round=1, sparse_epochs=1)
SPARSE = ("lth", "permuted", "naive")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    settings = Ensembles(out=tmp_path_factory.mktemp("ensemble") / "out", recipe=TINY, members=2)
    return settings, run_ensembles(settings)


def test_every_setting_is_measured_on_all_test_images(trained) -> None:
    settings, result = trained
    assert list(result["settings"]) == ["dense", "imp", *SPARSE]
    assert result["num_images"] == 500
    assert result["sparsity"] == pytest.approx(0.5, abs=1e-3)
    for name, values in result["settings"].items():
        assert [len(values["member_accuracy"]), len(result["checkpoints"][name])] == [2, 2]
        assert values["disagreement"] > 0
    assert finished(settings.out) == result


def test_a_network_and_data_of_the_users_own_have_ensembles(tmp_path) -> None:
    network = {"arch": "tiny:own_network", "num_classes": 10, "input_shape": [1, 8, 8]}
    own = replace(TINY, network=network, data={"name": "tiny:Faint"})
    result = run_ensembles(Ensembles(out=tmp_path / "out", recipe=own, members=2))
    assert result["data"] == "tiny:Faint"
    assert list(result["settings"]) == ["dense", "imp", *SPARSE]


def test_member_accuracies_are_those_of_the_stages(trained) -> None:
    settings, result = trained
    for name in ("dense", *SPARSE):
        tested = [json.loads((settings.folder(i) / name / "result.json").read_text())["test/top1"] for i in (1, 2)]
        assert [100 * value for value in result["settings"][name]["member_accuracy"]] == pytest.approx(tested)


def test_members_are_what_the_settings_say(trained) -> None:
    settings, result = trained
    own = Mask.load(settings.mask_a)
    masks = {name: [load_network(path).mask for path in paths] for name, paths in result["checkpoints"].items()}
    assert masks["lth"] == [own, own] == masks["naive"]
    permuted = [Mask.load(settings.permuted_mask(index)) for index in (1, 2)]
    assert masks["permuted"] == permuted
    assert own not in permuted
    assert permuted[0] != permuted[1]
    assert masks["dense"] == [None, None]
    assert own not in masks["imp"]
    assert masks["imp"][0] != masks["imp"][1]
    for name in ("imp", *SPARSE):
        for path, mask in zip(result["checkpoints"][name], masks[name], strict=True):
            weights = dict(load_network(path).network.named_parameters())
            assert mask.sparsity == pytest.approx(0.5, abs=1e-3)
            assert all(torch.all(weights[key][~kept] == 0) for key, kept in mask.items())


def test_sparse_runs_begin_where_they_should_in_one_data_order_per_index(trained) -> None:
    settings, _ = trained
    configs = {(name, i): read_config(settings.folder(i) / name / "config.yaml") for name in SPARSE for i in (1, 2)}
    for index in (1, 2):
        from_b = str(settings.folder(index) / "dense" / "rewind" / "1ep.ckpt")
        assert configs["lth", index]["init_from"] == str(settings.out / "a" / "dense" / "rewind" / "1ep.ckpt")
        assert configs["permuted", index]["init_from"] == configs["naive", index]["init_from"] == from_b
        assert len({configs[name, index]["seed"] for name in SPARSE}) == 1
    assert configs["lth", 1]["seed"] != configs["lth", 2]["seed"]


def test_complete_run_is_not_trained_or_measured_again(trained, monkeypatch) -> None:
    settings, result = trained
    monkeypatch.setattr(stages, "_run", lambda *_: pytest.fail("a complete stage was trained again"))
    monkeypatch.setattr(ensemble, "measure", lambda *_, **__: pytest.fail("a complete run was measured again"))
    assert run_ensembles(settings) == result
    with pytest.raises(InputError, match="holds another run: members is 2 there and 3 here"):
        run_ensembles(replace(settings, members=3))


def test_interrupted_run_goes_on_to_the_same_numbers(trained, tmp_path, monkeypatch) -> None:
    _, result = trained
    settings = Ensembles(out=tmp_path / "out", recipe=TINY, members=2)
    train, calls = stages.train_sparse, []

    def interrupted(*arguments: Any) -> dict[str, float]:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(stages, "train_sparse", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_ensembles(settings)
    assert not (settings.out / "result.json").exists()
    told: list[tuple[str, int, int]] = []
    assert run_ensembles(settings, lambda *line: told.append(line))["settings"] == result["settings"]
    assert told[0] == ("epoch", 0, 1 + 2 + 1 + 3)  # naive of the first, and the second from its dense network on


def test_given_networks_and_mask_are_used_as_they_are(trained, tmp_path) -> None:
    known, result = trained
    given = Ensembles(
        out=tmp_path / "out",
        recipe=TINY,
        dense_a=known.network_a,
        mask=known.mask_a,
        dense=(known.network(1), known.network(2)),
        members=2,
    )
    assert run_ensembles(given)["settings"] == result["settings"]
    assert not (tmp_path / "out" / "a").exists()
    assert not list((tmp_path / "out").glob("member=*/dense"))


def test_runs_of_fit_are_found_by_their_last_checkpoint(tmp_path) -> None:
    assert stages.trained_file(tmp_path) is None
    (tmp_path / "last.ckpt").touch()
    assert stages.trained_file(tmp_path) == tmp_path / "last.ckpt"
    (tmp_path / "final.ckpt").touch()
    assert stages.trained_file(tmp_path) == tmp_path / "final.ckpt"


Change = Callable[[Ensembles], Ensembles]
REFUSED: list[tuple[Change, str]] = [
    (lambda s: replace(s, members=1), "--members is 1, expected at least 2"),
    (lambda s: replace(s, dense_a=None), "needs --dense-a: the run of the dense network that it was pruned from"),
    (lambda s: replace(s, recipe=replace(TINY, targets=(1.5,))), "expected sparsities between 0 and 1"),
    (lambda s: replace(s, recipe=replace(TINY, rewinds=("soon",))), "moment 'soon' is not understood"),
    (
        lambda s: replace(s, recipe=replace(TINY, rewinds=("3ep",))),
        "recipe.rewinds ends at 3ep, after the end of training at 2ep",
    ),
    (lambda s: replace(s, recipe=replace(TINY, data={"name": "digit"})), "did you mean digits"),
    (
        lambda s: replace(s, recipe=replace(TINY, prune={"rate": 1})),
        "recipe.prune are settings of Classifier, which got an unexpected keyword argument 'rate'",
    ),
    (
        lambda s: replace(s, recipe=replace(TINY, network={"arch": "mlp", "width": 2})),
        "has width 1, this network has 2",
    ),
    (lambda s: replace(s, recipe=replace(TINY, rewinds=("2ep",))), r"has no rewind/2ep.ckpt: set recipe.rewinds"),
    (lambda s: replace(s, dense_a=s.out.parent), "holds neither final.ckpt nor last.ckpt: give a finished dense run"),
    (
        lambda s: replace(s, recipe=replace(TINY, targets=(0.9,))),
        r"has sparsity 0.5\d* and recipe.targets ends at 0.9, to which the others are pruned",
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_is_refused_before_anything_is_written(trained, tmp_path, change: Change, message: str) -> None:
    known, _ = trained
    given = Ensembles(out=tmp_path / "out", recipe=TINY, dense_a=known.network_a, mask=known.mask_a, members=2)
    with pytest.raises(InputError, match=message):
        run_ensembles(change(given))
    assert not (tmp_path / "out").exists()


def test_command_prints_the_table_and_writes_the_figure(trained, capsys) -> None:
    """The finished run under its own settings: nothing is trained."""
    settings, _ = trained
    short = "--recipe.fraction 0.5 --recipe.dense_epochs 2 --recipe.epochs_per_round 1 --recipe.sparse_epochs 1"
    assert main(f"ensemble --out {settings.out} --members 2 --recipe.targets [0.5] {short}".split()) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[1:] if " ± " in line] == [
        *("dense", "IMP", "LTH", "permuted", "naive")
    ]
    for name in ("table.csv", "diversity.svg", "diversity.png"):
        assert str(settings.out / name) in printed
        assert (settings.out / name).stat().st_size > 0


def test_checkpoints_of_the_result_exist(trained) -> None:
    _, result = trained
    assert all(Path(path).is_file() for paths in result["checkpoints"].values() for path in paths)
    assert all("state_dict" in read_checkpoint(path) for path in result["checkpoints"]["imp"])
