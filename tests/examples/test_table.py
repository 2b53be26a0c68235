"""Every command with every example: it works, or says in one line why it cannot, with exit code 2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import opened
import pytest
import yaml
from example_rows import NEEDS, ROOT, ROWS

from rebasin_lt.cli import LIGHTNING, main
from rebasin_lt.commands.table import COMMANDS
from rebasin_lt.experiment.controls import CONTROLS

SMALL = {"tabular": {"rows": 100}, "segmentation": {"pictures": 100}}
"""Settings of data that keep the runs short."""
NO_PREDICTIONS = "`predict_dataloader` must be implemented"
NO_CLASSES = "weights are judged by the cross entropy of classifiers here, but the network is none"
NO_EXPERTS = "has no mixture of experts"
NO_ONES = "--kind synflow follows what flows from inputs of ones, but .* takes .* int64"
NO_ACCURACY = "ensembles are compared by accuracy, but recipe.loss is mse"
EVERYWHERE = {"predict": NO_PREDICTIONS, "experts": NO_EXPERTS}
REFUSED: Mapping[str, Mapping[str, str]] = {
    "tabular": {"snip": NO_CLASSES, "grasp": NO_CLASSES, "ensemble": NO_ACCURACY, "transplant": NO_ACCURACY},
    "segmentation": {"snip": NO_CLASSES, "grasp": NO_CLASSES},
    "text": {"synflow": NO_ONES},
    "encoder": {"synflow": NO_ONES},
    "decoder": {"synflow": NO_ONES, "snip": NO_CLASSES, "grasp": NO_CLASSES},
}
"""Why commands cannot, by example."""


class Example(NamedTuple):
    """An example, the arguments that name its module and data, and its loss."""

    name: str
    model: str
    data: str
    loss: str

    @property
    def kinds(self) -> list[str]:
        data = [f"--data.{name}={value}" for name, value in SMALL.get(self.name, {}).items()]
        return ["--model", self.model.replace(":", "."), "--data", self.data.replace(":", "."), *data]

    def recipe(self, folder: Path) -> str:
        """A file with the recipe of a study."""
        plain = {part: {} for part in ("network", "dense", "prune", "sparse")}
        data = {"name": self.data, **SMALL.get(self.name, {})}
        lengths = {"dense_epochs": 1, "epochs_per_round": 1, "sparse_epochs": 1, "rewinds": ["1ep"]}
        amounts = {"targets": [0.5], "fraction": 0.5, "trainer": {"accelerator": "cpu"}}
        recipe = {"module": self.model, "data": data, "loss": self.loss, **plain, **lengths, **amounts}
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump({"recipe": recipe}))
        return str(path)


def lines(example: Example, runs: Path) -> Iterator[tuple[str, list[str]]]:
    """A command line of each command, and of each kind of control, by its name."""
    a, b, mask = (str(runs / part) for part in ("a/last.ckpt", "b/last.ckpt", "imp/imp/sparsity-0.5.mask.safetensors"))
    network, data = ["--model", example.model], ["--data", example.data]
    pair = ["--ckpt-a", a, "--ckpt-b", b, *network, *data]
    loss, recipe = ["--loss", example.loss], ["--config", example.recipe(runs)]
    few = ["--num-images", "200" if example.name == "timm_images" else "80"]  # as many as its widest layer has units
    some = [*few, "--num-test-images", "40"]
    moved = ["--permutation", str(runs / "match" / "permutation.perm.safetensors")]

    def out(name: str) -> list[str]:
        return ["--out", str(runs / name)]

    for verb in ("validate", "test", "predict"):
        yield verb, [verb, "--config", str(runs / "a" / "config.yaml")]
    yield "permute", ["permute", *pair, *loss, "--masks", mask, "--num-alphas", "3", *few, *out("match")]
    yield "barrier", ["barrier", *pair, *loss, "--num-alphas", "3", "--splits", "test", *some, *out("barrier")]
    yield "landscape", ["landscape", *pair, *moved, *loss, "--num-points", "3", *some, *out("landscape")]
    yield "diversity", ["diversity", "--checkpoints", f"{a},{b}", *network, *data, *loss, *out("diversity")]
    yield "mask", ["mask", "--mask", mask, "--ckpt", b, *network, *data, *out("mask")]
    yield "symmetry", ["symmetry", *network, *data]
    yield "experts", ["experts", "--ckpt", a, *network, *data, *out("experts")]
    yield "compare", ["compare", str(runs / "a"), str(runs / "b")]
    for kind, record in CONTROLS.items():
        seen = [*network, *(data if "data" in record.uses else []), *(few if "num_images" in record.uses else [])]
        sources = ["--mask", mask, *(["--ckpt", b, *seen] if "ckpt" in record.needs else [])]
        yield kind, ["control", "--kind", kind, *sources, *out(f"{kind}.mask.safetensors")]
    yield "ensemble", ["ensemble", *recipe, "--members", "2", *out("ensemble")]
    yield "transplant", ["transplant", *recipe, "--ckpt-a", a, "--mask", mask, "--seeds", "1", "2", *out("transplant")]
    grid = ["--seeds", "0", "--methods", "lth", "permuted", "naive", "--barrier.num_alphas", "3"]
    grid += ["--barrier.num_images", few[1], "--barrier.num_test_images", "40"]
    yield "study", ["study", *recipe, *grid, *out("study")]
    yield "report", ["report", str(runs / "study")]


def trained(example: Example, runs: Path) -> None:
    """A, B, and A's mask."""
    for seed, name in enumerate(("a", "b", "imp")):
        words = ["fit", *example.kinds, "--seed_everything", str(seed), "--trainer.default_root_dir", str(runs / name)]
        words += ["--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.max_epochs"]
        imp = ["-1", "--trainer.callbacks+=IterativeMagnitudePruning", "--trainer.callbacks.targets=[0.5]"]
        imp += ["--trainer.callbacks.fraction=0.5", "--trainer.callbacks.epochs_per_round=1"]
        imp += ["--trainer.callbacks+=InitFrom", "--trainer.callbacks.checkpoint", str(runs / "a" / "last.ckpt")]
        assert main([*words, *(imp if name == "imp" else ["1"])]) == 0


def test_every_command_has_a_line(tmp_path: Path) -> None:
    named = {line[0] for _, line in lines(Example(*ROWS[0]), tmp_path)}
    assert named | {"fit", "demo"} == {*LIGHTNING, *COMMANDS}  # what is fitted comes before; a demo takes no example


CASES = [pytest.param(Example(*row), id=row[0], marks=[] if row[0] == "tabular" else pytest.mark.slow) for row in ROWS]


@pytest.mark.parametrize("example", CASES)
def test_every_command_works_or_says_in_one_line_why_it_cannot(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if example.name in NEEDS:
        pytest.importorskip(NEEDS[example.name])
    monkeypatch.chdir(ROOT)
    trained(example, tmp_path)
    capsys.readouterr()
    refused, wrong = {**EVERYWHERE, **REFUSED.get(example.name, {})}, []
    with opened.launched_here():
        for name, line in lines(example, tmp_path):
            monkeypatch.setattr("sys.argv", ["rebasin-lt", *line])
            code, said = main(line), capsys.readouterr()
            told = said.err.strip().splitlines()
            if name not in refused:
                right = code == 0 and "Traceback" not in said.err
            else:
                right = code == 2 and len(told) == 1 and re.search(refused[name], told[0]) is not None
            wrong += [] if right else [f"{name}: exit code {code}: {said.err}"]
    assert not wrong, "\n".join(wrong)
