"""One syntax for lists, both forms of class names, and near misses, on every command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace

from rebasin_lt.cli import LIGHTNING, main
from rebasin_lt.commands.spelling import (
    _DATASETS,
    MEANT,
    as_list,
    check_command,
    is_list,
    lightning_settings,
    listed_settings,
    lists_in_brackets,
    spelled_out,
    type_of,
    with_classes_spelled,
    with_names_spelled,
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
    ("written", "read"),
    [
        (["--data", "digits"], ["--data", "Digits"]),
        (["--data=fashion_mnist"], ["--data=FashionMNIST"]),
        (["--data", "mine.data:Stripes"], ["--data", "mine.data.Stripes"]),
        (["--model=mine:Net"], ["--model=mine.Net"]),
        (["--model.arch", "mine.net"], ["--model.arch", "mine:net"]),
        (["--trainer.logger.name", "a.b"], ["--trainer.logger.name", "a.b"]),
        (["--trainer.callbacks+=mine:Own"], ["--trainer.callbacks+=mine.Own"]),
        (["--out", "mine.folder"], ["--out", "mine.folder"]),
        (["--data"], ["--data"]),
    ],
)
def test_lightnings_verbs_take_code_of_ones_own_in_either_form(written, read) -> None:
    assert with_classes_spelled(written) == read


def test_files_for_lightnings_verbs_too() -> None:
    written = {
        "model": {"class_path": "Classifier", "init_args": {"arch": "mine.net", "loss": "mine.top_two"}},
        "data": "fashion_mnist",
        "trainer": {
            "logger": {"class_path": "mine:Logger", "init_args": {"loss": "a.Class"}},
            "callbacks": [
                {"class_path": "mine:Own", "init_args": {"loss": "torch.nn.MSELoss", "name": "a.b"}},
                {"class_path": "IterativeMagnitudePruning", "init_args": {"criterion": "mine.low", "targets": [0.5]}},
            ],
        },
    }
    assert lightning_settings(written) == {
        "model": {"class_path": "Classifier", "init_args": {"arch": "mine:net", "loss": "mine:top_two"}},
        "data": "FashionMNIST",
        "trainer": {
            "logger": {"class_path": "mine.Logger", "init_args": {"loss": "a.Class"}},
            "callbacks": [
                {"class_path": "mine.Own", "init_args": {"loss": "torch.nn.MSELoss", "name": "a.b"}},
                {"class_path": "IterativeMagnitudePruning", "init_args": {"criterion": "mine:low", "targets": [0.5]}},
            ],
        },
    }
    ours = {"model": {"class_path": "rebasin_lt.lit.classifier:Classifier", "init_args": {"arch": "mine.net"}}}
    assert lightning_settings(ours)["model"]["init_args"] == {"arch": "mine:net"}
    assert lightning_settings({"data": {"class_path": "digits"}}) == {"data": {"class_path": "Digits"}}


def test_every_other_command_takes_them_too_wherever_they_stand() -> None:
    parsed = Namespace(data="Digits", out="mine.folder", loss="mine.top_two", methods=["lth", "mine.control"])
    parsed.model = "torchvision:resnet18"
    parsed.recipe = Namespace(data={"name": "mine.Stripes", "root": "a.b"}, network={"arch": "mine.net"})
    parsed.matchers = {"own": {"method": "mine.method"}, "usual": {"method": "weights"}}
    read = with_names_spelled(parsed).as_dict()
    assert read == {
        **{"data": "digits", "out": "mine.folder", "loss": "mine:top_two", "methods": ["lth", "mine:control"]},
        "model": "torchvision:resnet18",
        "recipe": {"data": {"name": "mine:Stripes", "root": "a.b"}, "network": {"arch": "mine:net"}},
        "matchers": {"own": {"method": "mine:method"}, "usual": {"method": "weights"}},
    }
    assert with_names_spelled({"recipe": {"data": {"name": "FashionMNIST"}}}) == {
        "recipe": {"data": {"name": "fashion_mnist"}}
    }


def test_a_list_in_a_file_may_be_a_text_as_on_a_command_line() -> None:
    written = {
        "methods": "lth, naive",
        "seeds": "0 1",
        "out": "a b",
        "recipe": {"targets": "[0.9, 0.98]", "network": {}},
    }
    assert listed_settings(written, TYPES) == {
        **{"methods": ["lth", "naive"], "seeds": [0, 1], "out": "a b"},
        "recipe": {"targets": [0.9, 0.98], "network": {}},
    }
    assert listed_settings({"seeds": [0], "methods": "[[lth]]x"}, TYPES) == {"seeds": [0], "methods": "[[lth]]x"}


STUDY = """
methods: lth, naive
seeds: 0 1
recipe: {data: {name: CIFAR10}, network: {arch: own_code.Net}, rewinds: 0it}
"""
FIT = """
model: {class_path: Classifier, init_args: {arch: "own_code.Net"}}
data: digits
trainer: {callbacks: [{class_path: "own_code:Own"}]}
"""


def test_a_study_and_a_fit_of_such_files_are_those_of_the_usual_spelling(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("own_code.py").write_text(
        "import lightning, torch\nNet = torch.nn.Linear\nclass Own(lightning.Callback): ...\n"
    )
    Path("study.yaml").write_text(STUDY)
    found = []
    monkeypatch.setattr("rebasin_lt.commands.study.do_study", lambda run, study, launcher: found.append(study))
    assert main(["study", "--config", "study.yaml", "--out", "x"]) == 0, capsys.readouterr().err
    (study,) = found
    assert (study.methods, study.seeds, study.recipe.rewinds) == (["lth", "naive"], [0, 1], ("0it",))
    assert (study.recipe.data["name"], study.recipe.network["arch"]) == ("cifar10", "own_code:Net")
    Path("fit.yaml").write_text(FIT)
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--config", "fit.yaml", "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["model"]["init_args"]["arch"] == "own_code:Net"
    assert shown["data"]["class_path"].endswith(".Digits")
    assert shown["trainer"]["callbacks"][0]["class_path"] == "own_code.Own"


def test_every_dataset_is_found_by_its_class_and_in_small_letters() -> None:
    assert set(_DATASETS.values()) == {(name, kind.__name__) for name, kind in DATASETS.items()}
    for name, kind in DATASETS.items():
        assert data_source(name) is data_source(kind.__name__) is kind
        assert with_classes_spelled(["--data", name])[1] == kind.__name__
        assert with_names_spelled({"data": kind.__name__}) == {"data": name}


def test_a_text_where_a_fits_file_wants_a_list_is_answered_with_the_list(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"max_epochs": 1, "callbacks": [{"class_path": "RewindCheckpoint", "init_args": {"at": "0it, 2ep"}}]}
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump({"model": "Classifier", "data": "Digits", "trainer": settings}))
    assert main(["fit", "--config", "fit.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.endswith("trainer.callbacks.at: Expected a list. Got value: 0it, 2ep; write it as [0it, 2ep]\n")
    assert said.count("\n") == 1


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
