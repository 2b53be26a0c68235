"""One syntax for lists, both forms of class names, and near misses, on every command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from rebasin_lt.cli import LIGHTNING, main
from rebasin_lt.commands.spelling import (
    _DATASETS,
    MEANT,
    as_list,
    check_command,
    is_list,
    lists_in_brackets,
    spelled_out,
    type_of,
    with_classes_spelled,
)
from rebasin_lt.commands.table import COMMANDS
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.data.registry import DATASETS, data_source

TYPES = {"methods": Sequence[str], "seeds": Sequence[int], "json": bool, "out": str, "recipe": Recipe}


@pytest.mark.parametrize(
    "words",
    [
        ["lth", "naive"],
        ["lth,naive"],
        ["lth,", "naive"],
        ["[lth, naive]"],
        ["[lth,", "naive]"],
        ["[lth,naive]"],
        ['["lth", "naive"]'],
        ["['lth', 'naive']"],
        ["[lth]", "naive"],
    ],
)
def test_a_list_is_understood_however_it_is_written(words) -> None:
    assert spelled_out(["--methods", *words, "--json"], TYPES) == ["--json=true", '--methods=["lth", "naive"]']
    assert spelled_out([f"--methods={words[0]}", *words[1:]], TYPES) == ['--methods=["lth", "naive"]']


def test_lists_hold_numbers_and_stand_below_dots() -> None:
    assert spelled_out(["--seeds", "0,1", "--seeds=[2]"], TYPES) == ["--seeds=[0, 1, 2]"]
    assert spelled_out(["--recipe.targets", "0.9", "0.98"], TYPES) == ["--recipe.targets=[0.9, 0.98]"]
    assert spelled_out(["--recipe.data.root", "a,b"], TYPES) == ["--recipe.data.root", "a,b"]  # below a mapping
    assert type_of("recipe.targets.x", TYPES) is None
    assert not is_list(Mapping[str, Sequence[int]])


def test_what_is_no_list_of_names_is_left_to_the_parser(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b").touch()
    assert as_list(["a,b", "c,d"]) == '["a,b", "c", "d"]'  # there is such a file
    assert as_list(["lth=a,b"]) == '["lth=a,b"]'
    assert as_list(["null"]) == "null"
    assert as_list(["[{a: 1}]"]) == "[{a: 1}]"
    assert as_list([]) == "[]"


def test_folders_to_compare_need_no_name_and_options_between_them_keep_theirs() -> None:
    types = {"runs": Sequence[str], "format": str, "json": bool}
    written = ["a", "--format", "csv", "b", "--json", "--format=latex", "c", "-c", "file.yaml"]
    assert spelled_out(written, types, "runs") == [
        *["--format", "csv", "--json=true", "--format=latex", "-c", "file.yaml", '["a", "b", "c"]']
    ]


def test_lightnings_verbs_get_their_lists_in_brackets() -> None:
    written = ["fit", "--a", "1", "2", "--b=3,4", "--c", "x,y", "--d", "[5]", "--e", "--f={g: 1, h: 2}", "--g", "z"]
    assert lists_in_brackets(written) == [
        *["fit", "--a=[1, 2]", "--b=[3,4]", '--c=["x", "y"]', "--d", "[5]", "--e", "--f={g: 1, h: 2}", "--g", "z"]
    ]


@pytest.mark.parametrize(
    ("written", "lightning", "read"),
    [
        (["--data", "digits"], True, ["--data", "Digits"]),
        (["--data=fashion_mnist"], True, ["--data=FashionMNIST"]),
        (["--data", "mine.data:Stripes"], True, ["--data", "mine.data.Stripes"]),
        (["--model=mine:Net"], True, ["--model=mine.Net"]),
        (["--model.arch", "mine.net"], True, ["--model.arch", "mine:net"]),
        (["--trainer.logger.name", "a.b"], True, ["--trainer.logger.name", "a.b"]),
        (["--trainer.callbacks+=mine:Own"], True, ["--trainer.callbacks+=mine.Own"]),
        (["--data", "mine.data.Stripes"], False, ["--data", "mine.data:Stripes"]),
        (["--model", "torchvision:resnet18"], False, ["--model", "torchvision:resnet18"]),
        (["--recipe.data.name=mine.Stripes"], False, ["--recipe.data.name=mine:Stripes"]),
        (["--loss", "mine.top_two"], False, ["--loss", "mine:top_two"]),
        (["--out", "mine.folder"], False, ["--out", "mine.folder"]),
        (["--data"], False, ["--data"]),
    ],
)
def test_code_of_ones_own_is_named_in_either_form(written, lightning, read) -> None:
    assert with_classes_spelled(written, lightning) == read


def test_every_dataset_is_found_by_its_class_and_in_small_letters() -> None:
    assert set(_DATASETS.values()) == {kind.__name__ for kind in DATASETS.values()}
    for name, kind in DATASETS.items():
        assert data_source(name) is data_source(kind.__name__) is kind
        assert with_classes_spelled(["--data", name], of_lightning=True)[1] == kind.__name__


def test_a_command_that_there_is_none_of_is_answered_with_the_one_that_was_meant(capsys) -> None:
    assert main(["train", "--config", "dense.yaml"]) == 2
    assert capsys.readouterr().err == "rebasin-lt: error: 'train' is no command: did you mean fit?\n"
    names = [*LIGHTNING, *COMMANDS]
    with pytest.raises(InputError, match="'permuet' is no command: did you mean permute"):
        check_command("permuet", names)
    with pytest.raises(InputError, match="'xyz' is no command: expected one of fit, "):
        check_command("xyz", names)
    with pytest.raises(InputError, match="'sparsity' is no command: did you mean sparse"):
        check_command("sparsity", ["sparse", *names])  # which is what some call an option
    check_command("--version", names)
    options = {"learning_rate", "weight_decay", "batch_size", "max_epochs", "targets", "arch"}
    assert set(MEANT.values()) <= {*names, *options}


def test_an_option_by_the_name_that_others_give_it_is_answered_with_ours(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", "dense.yaml", "--model.lr", "0.1"]) == 2
    assert "(did you mean learning_rate?)" in capsys.readouterr().err
    assert main(["fit", "--config", "dense.yaml", "--data", "Digts"]) == 2
    assert "'Digts' is no known class" in capsys.readouterr().err
