"""What checkpoints say of modules and data of the user's own, and how these are made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import own
import pytest
import torch

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.subjects import load_networks, open_data
from rebasin_lt.lit.checkpoint import load_network, save_network
from rebasin_lt.lit.data.other import OtherData
from rebasin_lt.lit.recorded import recorded, remember
from rebasin_lt.lit.trainer import quiet_trainer


class Keeping(own.TextData):
    """Data that keeps what it is given, but for what it is told to ignore."""

    def __init__(self, size: int = 41, batch_size: int = 16, ignored: Any = None) -> None:
        super().__init__(batch_size, size)
        self.save_hyperparameters(ignore=["ignored"] if ignored else [])


class Named(own.TextClassifier):
    """A module with an argument of that name, as those have that make a network by its name."""

    def __init__(self, name: str = "small") -> None:
        super().__init__(hidden={"small": 4, "large": 9}[name])
        self.save_hyperparameters()


class Plain(own.TextData):
    """Data without arguments."""

    def __init__(self) -> None:
        super().__init__(batch_size=10)


def make_text() -> own.TextData:
    return own.TextData(batch_size=10)


def trained(folder: Path, module: own.OwnModule, data: own.OwnData) -> str:
    trainer = quiet_trainer(folder, 1, accelerator="cpu")
    trainer.fit(module, datamodule=data)
    save_network(folder / "a.ckpt", trainer, module, None)
    return str(folder / "a.ckpt")


def opened(path: str, model: str, data: str) -> OtherData:
    (loaded,) = load_networks({"--ckpt-a": path}, model)
    found = open_data(loaded, f"--ckpt-a {path}", data)
    assert isinstance(found, OtherData)
    return found


def test_what_an_object_keeps_is_said_and_nothing_is_guessed() -> None:
    name = f"{__name__}:Keeping"
    assert recorded(Keeping(7)) == {"name": name, "size": 7, "batch_size": 16, "ignored": None}
    assert recorded(Keeping(7, ignored=3)) == {"name": name, "unsaid": True}
    assert recorded(own.TextData()) == {"name": "own:TextData", "unsaid": True}
    assert recorded(Plain()) == {"name": f"{__name__}:Plain"}


def test_what_is_no_primitive_or_only_to_be_read_once_is_not_said() -> None:
    module = own.TextClassifier(9)
    remember(module, {"hidden": 9, "init_from": "a.ckpt"})
    assert recorded(module) == {"name": "own:TextClassifier", "hidden": 9, "num_classes": 3}
    remember(module, {"hidden": 9, "depth": 2})  # which it does not say that it takes
    assert recorded(module) == {"name": "own:TextClassifier", "unsaid": True}
    remember(module, {"hidden": object()})
    assert recorded(module) == {"name": "own:TextClassifier", "unsaid": True}
    remember(module, {"hidden": 9, "num_classes": 3})
    assert recorded(module) == {"name": "own:TextClassifier", "hidden": 9, "num_classes": 3}


def test_a_module_is_made_again_with_what_the_checkpoint_says(tmp_path: Path) -> None:
    path = trained(tmp_path, own.Regressor(hidden=5), own.TabularData())
    assert load_network(path, "own:Regressor").network.body.out_features == 5
    whole = (
        r"it may not choose: name it too \(--model own:Regressor --data own:TabularData, and --loss mse or another wh"
    )
    with pytest.raises(InputError, match=whole):
        load_network(path)


def test_an_argument_called_name_is_none_of_the_class(tmp_path: Path) -> None:
    path, mine = trained(tmp_path, Named("large"), own.TextData()), f"{__name__}:Named"
    assert recorded(Named("large")) == {"name": mine, "name=": "large"}
    assert load_network(path, mine).network.body.out_features == 9
    content = torch.load(path, weights_only=True)
    content["rebasin_lt"]["made_with"]["name="] = "huge"
    torch.save(content, path)
    with pytest.raises(InputError, match=r"which cannot be made with what .*'name': 'huge'.*: KeyError: 'huge'; give"):
        load_network(path, mine)
    torch.save({"state_dict": content["state_dict"], "hyper_parameters": {"name": "large"}}, path)
    assert load_network(path, mine).network.body.out_features == 9


def test_a_plain_lightning_checkpoint_says_it_by_its_hyper_parameters(tmp_path: Path) -> None:
    module = own.Regressor(hidden=5)
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save({**content, "pytorch-lightning_version": "2.6.0"}, tmp_path / "plain.ckpt")
    assert load_network(tmp_path / "plain.ckpt", "own:Regressor").network.body.out_features == 5
    torch.save({"state_dict": module.state_dict()}, tmp_path / "bare.ckpt")
    with pytest.raises(InputError, match="of another width"):
        load_network(tmp_path / "bare.ckpt", "own:Regressor")


def test_arguments_that_a_class_does_not_do_without_are_named_in_one_line(tmp_path: Path, monkeypatch) -> None:
    path = trained(tmp_path, own.TextClassifier(), own.TextData())
    monkeypatch.setattr(own.TextClassifier, "__init__", lambda self, depth: None)
    with pytest.raises(
        InputError, match=r"model is 'own:TextClassifier', which cannot be made with what .* says"
    ) as it:
        load_network(path, "own:TextClassifier")
    assert len(str(it.value).splitlines()) == 1


def test_data_is_made_again_checked_against_the_users_and_never_guessed(tmp_path: Path) -> None:
    model, mine = "own:TextClassifier", f"{__name__}:Keeping"
    path = trained(tmp_path, own.TextClassifier(), Keeping(33))
    assert opened(path, model, mine).module.size == 33
    with pytest.raises(InputError, match="--data is own:TextData, but --ckpt-a .* was trained on .*:Keeping"):
        opened(path, model, "own:TextData")
    path = trained(tmp_path, own.TextClassifier(), own.TextData(batch_size=10))
    with pytest.raises(
        InputError, match=r"trained on own:TextData with arguments that a checkpoint cannot say.*--data"
    ):
        opened(path, model, "own:TextData")
    assert opened(path, model, f"{__name__}:make_text").module.batch_size == 10
