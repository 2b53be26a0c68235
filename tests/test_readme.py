"""Every command that the README shows is run, in order, in one empty folder."""

import re
import shlex
from functools import partial
from pathlib import Path

import pytest

from rebasin_lt.cli import main
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.trainer import quiet

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line.strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.strip()]
SMALL = {
    "fit --config dense.yaml": ["--trainer.max_epochs", "5"],
    "fit --config imp.yaml": [
        "--trainer.callbacks.init_args.epochs_per_round=1",
        "--trainer.callbacks.init_args.targets=[0.5,0.95]",
    ],
    "fit --config sparse.yaml": ["--trainer.max_epochs", "2"],
    "demo": ["--num-seeds", "1"],
    "study --config studies/digits.yaml": [
        *["--seeds=[0]", "--methods=[lth, permuted]", "--recipe.targets=[0.5]", "--recipe.rewinds=[0it]"],
        *["--recipe.dense_epochs=1", "--recipe.epochs_per_round=1", "--recipe.sparse_epochs=1"],
        *["--barrier=null", "--diversity=null"],
    ],
}
"""What makes the long ones short, besides fewer epochs of the demo; everything else runs as written."""


def test_the_readme_names_only_targets_that_the_makefile_has():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_command_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    epochs = {"dense_epochs": 2, "epochs_per_round": 1, "sparse_epochs": 1}
    monkeypatch.setattr("rebasin_lt.commands.demo.Recipe", partial(Recipe, **epochs))
    block = re.search(r"say in `(my_data.py)`:\n\n```python\n(.*?)```", README, flags=re.DOTALL)
    Path(block[1]).write_text(block[2], encoding="utf-8")
    ours = [command.replace("make demo", "rebasin-lt demo").removeprefix("PYTHONPATH=. ") for command in COMMANDS]
    commands = [command.removeprefix("rebasin-lt ") for command in ours if command.startswith("rebasin-lt ")]
    assert "demo" in commands
    assert len(commands) >= 8
    for command in commands:
        small = [arguments for start, arguments in SMALL.items() if command.startswith(start)]
        words = shlex.split(command, comments=True) + [argument for arguments in small for argument in arguments]
        monkeypatch.setattr("sys.argv", ["rebasin-lt", *words])
        assert main(words) == 0, f"{command}: {capsys.readouterr().err}"


@pytest.mark.slow
def test_the_demo_of_one_seed_tells_permuted_from_naive(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--num-seeds", "1"]) == 0
    assert re.search(r"training under the permuted mask is \d+\.\d+ percentage points better", capsys.readouterr().out)


def test_every_python_block_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert any("trainer.fit" in block for block in blocks)
    for block in blocks:
        names = {}
        block = block.replace(", 20, ", ", 2, ").replace("epochs_per_round=5", "epochs_per_round=1")
        if "trainer.fit" in block:
            quiet()  # our command line's; a script's own Trainer speaks as Lightning does
        exec(compile(block, "README.md", "exec"), names)
        for kind in names.values():
            if isinstance(kind, type) and kind.__module__ == "builtins":  # a dataset of the block's own
                shapes = [images.shape[1:] for images, _ in kind().sweep("train", augment=True)]
                assert set(shapes) == {kind.input_shape}


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#:]+)\)", README))
def test_every_link_of_the_readme_leads_somewhere(path):
    assert (ROOT / path).exists()
