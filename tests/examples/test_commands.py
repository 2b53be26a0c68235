"""Every example: the commands of examples/README.md, in order, at a reduced size."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from example_rows import NEEDS, README, ROOT, ROWS

from rebasin_lt.cli import main

BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.startswith("rebasin-lt")
]


def test_the_table_names_every_example() -> None:
    assert sorted(name for name, *_ in ROWS) == sorted(path.stem for path in (ROOT / "examples").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=[name for name, *_ in ROWS])
def test_the_commands_run(row: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    if row[0] in NEEDS:
        pytest.importorskip(NEEDS[row[0]])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    assert len(COMMANDS) == 6
    for command in COMMANDS:
        for shown, own in zip(("$E", *ROWS[0][1:]), row, strict=True):
            command = command.replace(f"{shown} ", f"{own} ").replace("$E", row[0])
        words = shlex.split(command)[1:]
        if words[0] == "fit" and "-1" not in words:
            words += ["--trainer.max_epochs", "2"]
        monkeypatch.setattr("sys.argv", ["rebasin-lt", *words])
        assert main(words) == 0, f"{command}: {capsys.readouterr().err}"
    assert (tmp_path / "runs" / row[0] / "match" / "sparsity-0.8.mask.safetensors").exists()
