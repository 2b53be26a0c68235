"""Datasets of the user's own: named by their import path, made again from what checkpoints say of them."""

from __future__ import annotations

import copy
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.lit.checkpoint import describe
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data.registry import build_data, data_source


def test_a_class_is_found_by_its_import_path_and_made_again_from_its_settings() -> None:
    data = build_data("own_data:Stripes", batch_size=5, seed=3)
    assert data.name == "own_data:Stripes"
    assert data.settings() == {
        "name": "own_data:Stripes",
        "root": "data",
        "batch_size": 5,
        "val_size": None,
        "train_size": None,
        "augment": True,
        "seed": 3,
    }
    again = build_data(**data.settings())
    assert type(again) is type(data)
    assert again.val_size == data.val_size == 2
    images, labels = next(iter(again.sweep("test")))
    assert images.shape == (5, 1, 4, 6)
    assert images.amax((1, 3)).argmax(1).tolist() == labels.tolist()
    assert images.unique().tolist() == [-0.5, 1.5]  # (0 - .25) / .5, (1 - .25) / .5


def test_arguments_that_are_handed_on_belong_to_the_settings() -> None:
    data = build_data("own_data:Faint", contrast=0.25, val_size=7)
    assert data.name == "own_data:Faint"  # not digits, which it inherits from
    settings = data.settings()
    assert (settings["contrast"], settings["val_size"]) == (0.25, 7)
    assert build_data(**settings).settings() == settings
    with pytest.raises(InputError, match="data own_data:Faint has no argument 'sharpness': expected contrast, root"):
        build_data("own_data:Faint", sharpness=1)


def test_what_was_given_is_what_is_said_however_the_constructor_hands_it_on() -> None:
    data = build_data("own_data:Free", rows=[2, 3], seed=4)
    assert (data.batch_size, data.val_size, data.seed, data.flip) == (3, 50, 4, False)
    assert data.settings() == {"name": "own_data:Free", "rows": [2, 3], "shift": 0, "flip": True, "seed": 4}
    data.shown[0].append(4)
    assert data.settings()["rows"] == [2, 3]
    again = build_data(**data.settings())
    assert again.shown == ([2, 3], 0, 1j, True)
    assert again.settings() == data.settings()
    with pytest.raises(InputError, match="data own_data:Free cannot be made with .*: .*multiple values .*'val_size'"):
        build_data("own_data:Free", rows=[], val_size=3)


@pytest.mark.parametrize("value", [object(), Enum("Colour", {"RED": "red"}, type=str).RED, {1: 2}, 1j])
def test_what_would_have_to_be_unpickled_says_nothing(value: object) -> None:
    assert build_data("own_data:Free", rows=[], kind=value).settings() is None
    assert build_data("own_data:Free", rows=[value]).settings() is None
    assert build_data("own_data:Free", rows=[], kind={"a": (1, None)}).settings()["kind"] == {"a": (1, None)}


def test_a_checkpoint_says_of_which_data_it_could_not_say_how_it_was_made() -> None:
    trainer = SimpleNamespace(current_epoch=1, global_step=2, callbacks=[])
    for rows, expected in (([1], None), ([object()], {"name": "own_data:Free", "unsaid": True})):
        trainer.datamodule = build_data("own_data:Free", rows=rows)
        said = describe(trainer, Classifier("mlp"))
        assert said["data"] == (expected or trainer.datamodule.settings())
        assert said["image_shape"] == [1, 4, 6]


def test_arguments_without_a_name_and_one_called_name_say_nothing() -> None:
    positional = data_source("own_data:Positional")
    assert positional(3).settings() is None
    assert positional(3, 4).settings() is None
    assert positional().settings() == {"name": "own_data:Positional"}
    assert data_source("own_data:Named")().settings() is None
    assert data_source("own_data:Renamed").name == "own_data:Renamed"
    renamed = build_data("own_data:Renamed")
    assert renamed.name == "digits"
    assert renamed.settings()["name"] == "own_data:Renamed"
    assert data_source("own_data:Fields")(rows=2).settings() is None
    assert data_source("own_data:Swallowing")(mood=3).settings() is None


def test_paths_numpy_s_numbers_and_mixins_can_be_said() -> None:
    data = build_data("own_data:Mixed", root=Path("x"), batch_size=np.int64(3), contrast=np.float32(0.5))
    assert data.settings() | {"root": "x", "batch_size": 3, "contrast": 0.5} == data.settings()
    assert [type(data.settings()[name]) for name in ("root", "batch_size", "contrast")] == [str, int, float]
    assert build_data(**data.settings()).settings() == data.settings()


def test_the_published_size_of_a_base_class_is_not_that_of_another_dataset() -> None:
    assert build_data("own_data:Faint").published_size is None
    assert build_data("digits").published_size == 1297


def test_a_class_within_a_class_and_a_copy_say_the_same() -> None:
    data = build_data("own_data:Outer.Inner", seed=2)
    assert data.name == "own_data:Outer.Inner"
    assert type(build_data(**data.settings())) is type(data)
    assert copy.deepcopy(data).settings() == data.settings()


def test_a_class_of_a_function_says_nothing() -> None:
    stripes = type(build_data("own_data:Stripes"))

    class Local(stripes):
        pass

    assert Local.name.endswith("<locals>.Local")
    assert Local().settings() is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_date:Stripes", "data is 'own_date:Stripes', which cannot be imported: No module named 'own_date'; is it"),
        ("own_data:Strips", "data is 'own_data:Strips', which cannot be imported: module 'own_data' has no attribute"),
        ("own_data:NOT_DATA", "data is 'own_data:NOT_DATA', which is a .*, expected a LightningDataModule, or"),
        ("own_data:NotData", "data is 'own_data:NotData', which is a NotData, expected a LightningDataModule, or"),
        ("own_data:torch", "data is 'own_data:torch', which is a module, expected a LightningDataModule, or"),
        ("own_data.Stripes", r"data is 'own_data.Stripes', which is not known \(did you mean own_data:Stripes\?\)"),
        ("own_broken:Data", "cannot be imported: ZeroDivisionError: division by zero$"),
        ("own_needs:Data", "cannot be imported: No module named 'nowhere_to_be_found'$"),
        (".own_data:Stripes", "cannot be imported: TypeError: "),
        ("own_data:", "data is 'own_data:', which is not known.*: expected digits, .* or package.module:Class"),
    ],
)
def test_names_that_stand_for_no_dataset_are_refused(tmp_path: Path, monkeypatch, name: str, message: str) -> None:
    (tmp_path / "own_broken.py").write_text("1 / 0")
    (tmp_path / "own_needs.py").write_text("import nowhere_to_be_found")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=message):
        build_data(name)


def test_a_class_that_lacks_something_says_what() -> None:
    with pytest.raises(InputError, match="data own_data:Free needs its argument 'rows': set it"):
        build_data("own_data:Free")
    with pytest.raises(InputError, match=r"data own_data:Empty has no method open_part\(self, part\), which reads"):
        build_data("own_data:Empty").setup("fit")


def test_it_is_trained_on_and_matched_on_by_command(tmp_path: Path, capsys) -> None:
    for seed in (0, 1):
        settings = {
            **{"seed_everything": seed, "model": "Classifier", "model.arch": "mlp", "model.num_classes": 4},
            **{"model.input_shape": "[1,4,6]", "data": "own_data.Stripes", "data.batch_size": 10},
            **{"trainer.max_epochs": 1, "trainer.accelerator": "cpu", "trainer.default_root_dir": tmp_path / str(seed)},
        }
        assert main(["fit", *(f"--{name}={value}" for name, value in settings.items())]) == 0
    checkpoints = [f"--ckpt-{name}={tmp_path / str(seed) / 'last.ckpt'}" for seed, name in enumerate("ab")]
    words = ["permute", *checkpoints, f"--out={tmp_path / 'match'}", "--device=cpu"]
    assert main(words) == 2
    assert "code that it may not choose: name it too (--data own_data:Stripes)" in capsys.readouterr().err
    assert main([*words, "--data=own_data:Stripes"]) == 0
    assert (tmp_path / "match" / "permutation.perm.safetensors").is_file()


def test_ours_keep_their_names() -> None:
    assert build_data("digits").name == "digits"
