"""What docs/study.md shows is what there is."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from shipped_studies import NOT_OF_THE_GRID, STUDIES, read

from rebasin_lt.cli import main
from rebasin_lt.experiment.methods import control_methods, fixed_methods
from rebasin_lt.study.folder import study_of
from rebasin_lt.study.plan import KINDS, plan

TEXT = (Path(__file__).parents[2] / "docs" / "study.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL) for line in block.splitlines()]


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("rebasin-lt study")])
def test_each_command_is_one(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command, comments=True)[1:]
    assert main([*words, "--dry-run", "--probe", "false"]) == 0
    stages = capsys.readouterr().out.count("to do ")
    if said := re.search(r"# (\d+) stages", command):
        assert int(said[1]) == stages


def test_the_rest_of_a_study_that_grew_is_counted():
    first = int(re.search(r"# (\d+) stages", TEXT)[1])
    rest = int(re.search(r"# the other ([\d,]+)", TEXT)[1].replace(",", ""))
    assert first + rest == len(plan(read("studies/resnet20_cifar10.yaml")))


def test_the_file_that_is_explained_is_the_one_for_digits():
    (settings,) = [yaml.safe_load(block) for block in blocks("yaml") if "out:" in block]
    shown = study_of({key: value for key, value in settings.items() if key not in NOT_OF_THE_GRID}, "docs").primitives()
    shipped = read("studies/digits.yaml").primitives()
    assert {**shown, "title": "", "methods": sorted(shown["methods"])} == {
        **shipped,
        "title": "",
        "methods": sorted(shipped["methods"]),
    }


def test_the_ledger_is_the_one_that_is_printed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "--config", "studies/digits.yaml", "--dry-run", "--probe", "false"]) == 0
    printed = capsys.readouterr().out.splitlines()
    (shown,) = [block.splitlines() for block in blocks("text") if "to do" in block]
    names = {*KINDS, "all"}
    rows = [line.split() for line in printed if line.split()[:1] and line.split()[0] in names]
    assert [line.split()[:-1] for line in shown if line.split()[:1] and line.split()[0] in names] == rows
    assert set(shown[:2]) <= set(printed)


def test_the_table_counts_every_shipped_study():
    rows = re.findall(r"^\| `(\w+\.yaml)` \|.*\| ([\d,]+) \| ([\d,]+) \|$", TEXT, flags=re.MULTILINE)
    counted = {}
    for name in STUDIES:
        stages = plan(read(name)).values()
        counted[name] = (f"{len(stages):,}", f"{sum(stage.epochs for stage in stages):,}")
    assert {f"studies/{name}": (stages, epochs) for name, stages, epochs in rows} == counted


def test_every_method_and_kind_of_stage_is_explained():
    assert all(f"`{name}`" in TEXT for name in [*fixed_methods(), *control_methods()])
    assert all(f"\n| {kind} |" in TEXT for kind in KINDS)
