"""docs/extending.md: every recipe is executed, from top to bottom."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from rebasin_lt.cli import main
from rebasin_lt.connectivity.corrections import CORRECTIONS
from rebasin_lt.experiment.metrics import METRICS
from rebasin_lt.matching.objectives import OBJECTIVES
from rebasin_lt.symmetry import rules
from rebasin_lt.symmetry.trace import trace_symmetry

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
TABLES = (OBJECTIVES, CORRECTIONS, METRICS)
WORKS_IN = ["runs/first", "runs/by-norm", "runs/top-two", "runs/mine", "runs/absolute", "runs/half"]


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and content."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """The folder that the page speaks of, with tables, rules and imports as they were afterwards."""
    seed = finished / "width=1" / "seed=0"
    for name, stage in (("a", "dense_a"), ("b", "dense_b"), ("imp", "imp_a")):
        shutil.copytree(seed / stage, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    before = [copy.copy(table) for table in TABLES]
    yield tmp_path
    for table, content in zip(TABLES, before, strict=True):
        table.clear()
        table.update(content)
    sys.modules.pop("mine", None)


def follow(language: str, content: str) -> None:
    """Do what a block says: write its file, give its commands, or execute it."""
    named = re.match(r"# (\S+\.\w+)(, continued)?\n", content)
    if named:
        with Path(named[1]).open("a" if named[2] else "w", encoding="utf-8") as file:
            file.write(content)
    elif language == "bash":
        for line in content.splitlines():
            sys.modules.pop("mine", None)  # as a new process finds it
            assert main(shlex.split(line)[1:]) == 0, line
    else:
        assert language == "python"
        exec(compile(content, str(PAGE), "exec"), {})


def test_every_recipe_does_what_it_says(folder) -> None:
    for language, content in blocks(PAGE.read_text(encoding="utf-8")):
        follow(language, content)
    for place in WORKS_IN:
        assert any((folder / place).iterdir()), place
    report = "".join(path.read_text(encoding="utf-8") for path in (folder / "runs" / "mine" / "report").glob("*.md"))
    for text in ("by norm", "first units first", "test loss"):
        assert text in report, text
    assert {"absolute", "half"} <= {*OBJECTIVES, *CORRECTIONS}
    assert len(list(folder.glob("runs/mine/**/csv/**/metrics.csv"))) >= 5


def test_the_new_operator_leaves_other_dimensions_free(monkeypatch) -> None:
    """The rule of the page, and what is found without it."""

    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(inputs).cumsum(-2)).sum(-2)

    inputs = torch.randn(2, 4, 3)
    (rule,) = [content for _, content in blocks(PAGE.read_text(encoding="utf-8")) if "cumsum" in content]
    monkeypatch.delitem(rules.RULES, "cumsum")  # the package has a like one
    assert not trace_symmetry(Sums(), inputs).groups
    written: dict[str, object] = {}
    exec(compile(rule, str(PAGE), "exec"), written)
    monkeypatch.setitem(rules.RULES, "cumsum", written["cumulative"])  # as if it had been there at the import
    assert dict(trace_symmetry(Sums(), inputs).groups) == {"first.weight": 5}


def test_the_page_names_files_that_are_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for place in re.findall(r"\]\(\.\./([^)#]+)", text):
        assert (PAGE.parents[1] / place).exists(), place
    for place in re.findall(r"`((?:pruning|experiment|matching|connectivity|symmetry|study|commands)/[\w/.]+)`", text):
        assert (PAGE.parents[1] / "rebasin_lt" / place).exists(), place
