"""Datasets of the user's own: named by their import path, made again from what checkpoints say of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.lit.data.registry import build_data


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("own_data", None)


def test_a_class_is_found_by_its_import_path_and_made_again_from_its_settings() -> None:
    data = build_data("own_data:Stripes", batch_size=5, seed=3)
    assert data.name == "own_data:Stripes"
    assert data.settings() == {
        "name": "own_data:Stripes",
        "root": "data",
        "batch_size": 5,
        "val_size": 2,
        "train_size": None,
        "augment": True,
        "seed": 3,
    }
    again = build_data(**data.settings())
    assert type(again) is type(data)
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


@pytest.mark.parametrize("name", ["Unkept", "Drawn"])
def test_what_could_not_be_made_again_says_nothing(name: str) -> None:
    assert build_data(f"own_data:{name}").settings() is None


def test_a_class_of_a_function_or_a_script_says_nothing() -> None:
    stripes = type(build_data("own_data:Stripes"))

    class Local(stripes):
        pass

    script = type("Script", (stripes,), {"__module__": "__main__"})
    assert Local.name.endswith("Local")
    assert script.name == "__main__:Script"
    assert Local().settings() is None
    assert script().settings() is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_date:Stripes", "data is 'own_date:Stripes', which cannot be imported: No module named 'own_date'; is it"),
        ("own_data:Strips", "data is 'own_data:Strips', which cannot be imported: module 'own_data' has no attribute"),
        ("own_data:NOT_DATA", r"data is 'own_data:NOT_DATA', expected a subclass of rebasin_lt\.lit\.data\.ImageData"),
        ("own_data:torch", r"data is 'own_data:torch', expected a subclass of rebasin_lt\.lit\.data\.ImageData"),
        ("own_data:", "data is 'own_data:', which is not known.*: expected digits, .* or package.module:Class"),
    ],
)
def test_names_that_stand_for_no_dataset_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_data(name)


def test_a_class_that_lacks_something_says_what() -> None:
    with pytest.raises(InputError, match="data own_data:Needy needs its argument 'rows': set it"):
        build_data("own_data:Needy")
    assert build_data("own_data:Needy", rows=3).settings()["rows"] == 3
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
