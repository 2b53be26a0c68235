"""Every command with modules, data and batches of the user's own: it works, or says in one line why it cannot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import own
import pytest
import torch

from rebasin_lt.cli import main
from rebasin_lt.lit.checkpoint import load_network, save_network
from rebasin_lt.lit.trainer import quiet_trainer
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask


class Case(NamedTuple):
    """A module, its data, what has to be said of its batches, and why commands cannot do with it, by their name."""

    module: str
    data: str
    said: tuple[str, ...] = ()
    refused: dict[str, str] = {}  # noqa: RUF012 - of a NamedTuple
    loss: str = "cross_entropy"


_IDS = {"synflow": "--kind synflow follows what flows from inputs of ones, but TextClassifier takes .* int64"}
_NO_CLASSES = {"snip": "weights are judged by the cross entropy of classifiers here, but the network is none"}
CASES = {
    "dicts": Case("own:TextClassifier", "own:TextData", refused=_IDS),
    "tuples": Case("own:TextClassifier", "own:TextTuples", refused=_IDS),
    "odd names": Case(
        "own:TextClassifier",
        "own:OddlyNamedText",
        ("--inputs", "input_ids=ids,attention_mask", "--targets", "kind"),
        _IDS,
    ),
    "loaders": Case("own:TextClassifier", "own:text_loaders", refused=_IDS),
    "tabular": Case("own:Regressor", "own:TabularData", refused=_NO_CLASSES, loss="mse"),
    "pixels": Case("own:UNet", "own:Segments", refused=_NO_CLASSES, loss="pixel_cross_entropy"),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def runs(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a, b: networks trained for an epoch by `fit`; mask: A's."""
    folder = tmp_path_factory.mktemp("own")
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        if case.data == "own:text_loaders":
            trainer, module = quiet_trainer(folder / name, 1, accelerator="cpu"), own.TextClassifier()
            trainer.fit(module, own.text_loaders()["train"])
            save_network(folder / f"{name}.ckpt", trainer, module, None)
            continue
        out = [
            "--trainer.default_root_dir",
            str(folder / name),
            "--trainer.max_epochs",
            "1",
            "--trainer.logger",
            "false",
        ]
        kinds = ["--model", case.module.replace(":", "."), "--data", case.data.replace(":", ".")]
        assert main(["fit", *kinds, "--seed_everything", str(seed), "--trainer.accelerator", "cpu", *out]) == 0
        (folder / name / "last.ckpt").rename(folder / f"{name}.ckpt")
    network = load_network(folder / "a.ckpt", case.module).network
    prune_to_sparsity(network.state_dict(), Mask.ones_of(network), 0.5).save(folder / "a.mask.safetensors")
    return folder


def arguments(case: Case, runs: Path, out: Path) -> dict[str, list[str]]:
    """A command line of each command."""
    network = ["--model", case.module]
    data = ["--data", case.data, *case.said]
    judged = [*data, "--loss", case.loss]
    inputs = ["--data", case.data, *case.said[:2]]
    pair = ["--ckpt-a", f"{runs}/a.ckpt", "--ckpt-b", f"{runs}/b.ckpt", *network]
    mask, b = ["--mask", f"{runs}/a.mask.safetensors"], ["--ckpt", f"{runs}/b.ckpt", *network]
    match = ["permute", *pair, "--masks", mask[1]]
    control = ["control", *mask, *b, "--out", f"{out}/control.mask.safetensors"]
    return {
        "match": [*match, *data, "--num-alphas", "0", "--out", f"{out}/match"],
        "permute": [*match, *judged, "--num-alphas", "3", "--num-images", "20", "--out", f"{out}/permute"],
        "weights": [*match, *inputs, "--method", "frank_wolfe", "--num-alphas", "0", "--out", f"{out}/weights"],
        "barrier": ["barrier", *pair, *judged, "--num-alphas", "3", "--out", f"{out}/barrier",
                    "--permutation", f"{out}/match/permutation.perm.safetensors"],
        "landscape": ["landscape", *pair, *judged, "--num-points", "3", "--out", f"{out}/landscape",
                      "--permutation", f"{out}/match/permutation.perm.safetensors"],
        "diversity": ["diversity", "--checkpoints", f"{runs}/a.ckpt,{runs}/b.ckpt", *network, *judged,
                      "--out", f"{out}/diversity"],
        "random_permutation": [*control, "--kind", "random_permutation", *inputs],
        "snip": [*control[:-1], f"{out}/snip.mask.safetensors", "--kind", "snip", *data],
        "synflow": [*control[:-1], f"{out}/synflow.mask.safetensors", "--kind", "synflow", *inputs],
        "mask": ["mask", *mask, *b, *inputs, "--out", f"{out}/mask"],
        "symmetry": ["symmetry", *network, *inputs],
    }  # fmt: skip


def test_every_command_works_or_says_in_one_line_why_it_cannot(case: Case, runs: Path, tmp_path: Path, capsys) -> None:
    capsys.readouterr()
    for name, line in arguments(case, runs, tmp_path).items():
        code, said = main(line), capsys.readouterr()
        where = f"{name} of {case.module} on {case.data}: {said.err}"
        assert "Traceback" not in said.err, where
        assert code == (2 if name in case.refused else 0), where
        if code:
            (message,) = said.err.strip().splitlines()
            assert re.search(case.refused[name], message), where
