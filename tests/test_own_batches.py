"""Every command with batches of every form and size, with labels or without: it works, or says in one line why not."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forms import FORMS, SIZES, batches, labels_of

from rebasin_lt.cli import main
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask

NEEDS_LABELS = {"permute", "barrier", "landscape", "diversity", "temperature", "snip", "grasp"}
NO_LABELS = "holds? inputs without targets|holds? .* without a label|needs labels"
QUICK = {
    ("tensor", "last batch of 1", None),
    ("nested", "last batch of 1", "pair"),
}


def cases() -> Iterator[Any]:
    for name in FORMS:
        for sizes in SIZES:
            for labelled in (None, *labels_of(name)):
                case = (name, sizes, labelled)
                marks = [] if case in QUICK else [pytest.mark.slow]
                yield pytest.param(*case, id=f"{name}, {sizes}, {labelled or 'no'} labels", marks=marks)


def lines(model: str, folder: Path) -> dict[str, list[str]]:
    """A command line of each command that looks at data, and of each way in which it does."""
    network, data = ["--model", model], ["--data", f"{__name__}:loader"]
    pair = ["--ckpt-a", f"{folder}/a.pt", "--ckpt-b", f"{folder}/b.pt", *network, *data]
    mask, b = ["--mask", f"{folder}/a.mask.safetensors"], ["--ckpt", f"{folder}/b.pt", *network, *data]
    moved = ["--permutation", f"{folder}/match/permutation.perm.safetensors"]
    control = ["control", *mask, *b]
    found = {
        "match": ["permute", *pair, "--masks", mask[1], "--num-alphas", "0"],
        "permute": ["permute", *pair, "--num-alphas", "3", "--num-images", "33"],
        "barrier": ["barrier", *pair, *moved, "--num-alphas", "3"],
        "temperature": ["barrier", *pair, "--num-alphas", "3", "--corrections", "temperature"],
        "landscape": ["landscape", *pair, *moved, "--num-points", "3"],
        "diversity": ["diversity", "--checkpoints", f"{folder}/a.pt,{folder}/b.pt", *network, *data],
        "random_permutation": [*control, "--kind", "random_permutation"],
        "snip": [*control, "--kind", "snip"],
        "grasp": [*control, "--kind", "grasp"],
        "mask": ["mask", *mask, *b],
        "symmetry": ["symmetry", *network, *data],
    }
    for name, line in found.items():
        if name != "symmetry":
            line += ["--out", f"{folder}/{name}{'.mask.safetensors' if line[0] == 'control' else ''}"]
    return found


@pytest.mark.parametrize(("name", "sizes", "labelled"), cases())
def test_every_command_works_or_says_in_one_line_why_not(
    name: str, sizes: str, labelled: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def loader() -> list[Any]:
        return batches(name, sizes, labelled)

    monkeypatch.setattr(sys.modules[__name__], "loader", loader, raising=False)
    kind = FORMS[name][0]
    networks = kind(), kind()
    for file, network in zip(("a.pt", "b.pt"), networks, strict=True):
        torch.save(network.state_dict(), tmp_path / file)
    prune_to_sparsity(networks[0].state_dict(), Mask.ones_of(networks[0]), 0.5).save(tmp_path / "a.mask.safetensors")
    for command, line in lines(f"forms:{kind.__name__}", tmp_path).items():
        code, said = main(line), capsys.readouterr()
        where = f"{command} of {name}, {sizes}, {labelled} labels: {code} {said.err}"
        refused = labelled is None and command in NEEDS_LABELS
        assert "Traceback" not in said.err, where
        assert code == (2 if refused else 0), where
        if refused:
            (message,) = said.err.strip().splitlines()
            assert re.search(NO_LABELS, message), where
