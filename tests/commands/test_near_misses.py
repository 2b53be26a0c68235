"""Names that nothing has, on a command line and in a YAML: refused in one line, with the one that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rebasin_lt.cli import main
from rebasin_lt.commands.near_misses import with_meant

IMP, RIGL, CSV = "IterativeMagnitudePruning", "DynamicSparseTraining", "CSVLogger"
FILES = {
    "a logger": ({"logger": "WandbLoger"}, "'WandbLoger' is no known class (did you mean WandbLogger?)"),
    "in small letters": ({"logger": "csvlogger"}, "'csvlogger' is no known class (did you mean CSVLogger?)"),
    "one of several": (
        {"logger": [{"class_path": CSV}, {"class_path": "TensorBoardLoger"}]},
        "'TensorBoardLoger' is no known class (did you mean TensorBoardLogger?)",
    ),
    "a logger's": (
        {"logger": {"class_path": CSV, "init_args": {"save_dr": "x"}}},
        "Option 'save_dr' is not accepted (did you mean save_dir?)",
    ),
    "a callback": ({"callbacks": [{"class_path": "MaskGard"}]}, "'MaskGard' is no known class (did you mean MaskGuard"),
    "a module's": (
        {"callbacks": [{"class_path": "lightning.pytorch.callbacks.EarlyStoping"}]},
        "has no attribute 'EarlyStoping' (did you mean EarlyStopping?)",
    ),
    "of this callback": (
        {"callbacks": [{"class_path": IMP, "init_args": {"sparsities": [0.5]}}]},
        "Option 'sparsities' is not accepted (did you mean targets?)",
    ),
    "of that callback": (
        {"callbacks": [{"class_path": RIGL, "init_args": {"sparsities": 0.5}}]},
        "Option 'sparsities' is not accepted (did you mean sparsity?)",
    ),
    "the trainer's": (
        {"max_epoch": 3},
        "does not accept option 'trainer.max_epoch' (did you mean trainer.max_epochs?)",
    ),
}


def refused(line: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command refuses."""
    monkeypatch.setattr("sys.argv", ["rebasin-lt", *line])
    assert main(line) == 2
    (message,) = capsys.readouterr().err.splitlines()
    return message


@pytest.mark.parametrize("data", ["Digits", "digits"])
@pytest.mark.parametrize(("trainer", "said"), FILES.values(), ids=FILES)
def test_a_name_in_a_file(trainer, said, data, tmp_path: Path, monkeypatch, capsys) -> None:
    """Also where the rest is spelled in another way, and the parser is handed its text instead of the file."""
    monkeypatch.chdir(tmp_path)
    kinds = {"model": {"class_path": "Classifier", "init_args": {"arch": "mlp"}}, "data": {"class_path": data}}
    Path("own.yaml").write_text(yaml.safe_dump({**kinds, "trainer": trainer}))
    assert said in refused(["fit", "--config", "own.yaml"], monkeypatch, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trainer.logger", "WandbLoger"], "'WandbLoger' is no known class (did you mean WandbLogger?)"),
        (["--trainer.callbacks+=MaskGard"], "'MaskGard' is no known class (did you mean MaskGuard?)"),
        ([f"--trainer.callbacks+={IMP}", "--trainer.callbacks.sparsities=[0.5]"], "(did you mean targets?)"),
        ([f"--trainer.logger={CSV}", "--trainer.logger.save_dr=x"], "(did you mean save_dir?)"),
        (
            ["--model", "my_modul.Mine"],
            "No module named 'my_modul'; is it on PYTHONPATH? PYTHONPATH=. finds what lies in",
        ),
        (["--trainer.callbacks+=my_modul.Mine"], "No module named 'my_modul'; is it on PYTHONPATH?"),
        (["--model", "Clasifier"], "'Clasifier' is no known class (did you mean Classifier?)"),
    ],
)
def test_a_name_on_the_command_line(words, said, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(["fit", "--config", "dense.yaml", *words], monkeypatch, capsys)
    assert not list(tmp_path.iterdir())


def test_options_below_others_are_known_in_files_and_on_the_command_line() -> None:
    """Of a study's recipe; as they are written at each place."""
    where = "Subcommand 'study' does not accept option 'recipe.epochs_per_rond'"
    assert with_meant(where, "", "", "study") == f"{where} (did you mean recipe.epochs_per_round?)"
    where = "unrecognized arguments: --recipe.epochs_per_rond 3"
    assert with_meant(where, "", "", "study") == f"{where} (did you mean --recipe.epochs-per-round?)"


def test_without_a_near_one_findings_stay_as_they_are() -> None:
    expected = "give a name such as CIFAR10 or Classifier, or package.module.Class"
    unknown = with_meant("Expected a dot import path string: Quux", "", "trainer.logger", "fit")
    assert unknown == f"'Quux' is no known class; {expected}"
    report = "Problem with given class_path 'rebasin_lt.MaskGuard':\n  Option 'quux' is not accepted"
    for finding in ("Option 'quux' is not accepted", "unrecognized arguments: --quux 3", "Expected a float"):
        assert with_meant(finding, report, "model", "fit") == finding
