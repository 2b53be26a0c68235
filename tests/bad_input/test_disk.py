"""Full disks and folders that may not be written: one line, the last good file whole, no temporary file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from bad_folders import FIT, MATCH

from rebasin_lt.cli import main
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.files import atomic_path, write_json, write_tensors


def mounted(folder: Path, options: str) -> bool:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    return shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB."""
    disk = tmp_path / "disk"
    if not mounted(disk, "size=200k"):
        pytest.skip("a small disk needs mount, which takes root and a kernel that allows it")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["json", "tensors", "mask"])
def test_a_full_disk_is_named_and_the_old_file_stays(small, kind) -> None:
    path = small / "file"
    write = {
        "json": lambda n: write_json(path, "x" * n),
        "tensors": lambda n: write_tensors(path, {"x": torch.zeros(n // 4)}),
        "mask": lambda n: Mask({"x": torch.ones(n, dtype=torch.bool)}).save(path),
    }[kind]
    write(1000)
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space left on device") as error:
        write(400_000)
    assert error.value.filename == str(path)
    assert path.read_bytes() == before
    assert os.listdir(small) == ["file"]


def test_errors_of_other_files_keep_their_names(tmp_path) -> None:
    def read_elsewhere() -> None:
        with atomic_path(tmp_path / "a"):
            (tmp_path / "missing").read_text()

    with pytest.raises(FileNotFoundError) as error:
        read_elsewhere()
    assert error.value.filename == str(tmp_path / "missing")
    assert os.listdir(tmp_path) == []


def run(capfd, command: str) -> str:
    """The one line on standard error."""
    capfd.readouterr()
    assert main(command.split()) == 1
    line = capfd.readouterr().err
    assert line.startswith("rebasin-lt: error: ")
    assert line.count("\n") == 1
    return line


@pytest.fixture
def here(files, tmp_path, monkeypatch) -> Path:
    """A folder of the test's own, with the inputs of the good commands."""
    for name in ("a.ckpt", "b.ckpt", "good.mask.safetensors"):
        shutil.copyfile(files / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])
    return tmp_path


def fill(disk: Path, leave: int) -> None:
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - leave))


def test_permute_on_a_full_disk_goes_on_when_there_is_room(here, small, capfd) -> None:
    fill(small, 40_000)
    assert "disk/match/permuted.ckpt: No space left on device" in run(capfd, f"{MATCH} disk/match")
    assert names(small / "match") == ["config.yaml", "good.perm.safetensors", "permutation.perm.safetensors"]
    (small / "filler").unlink()
    assert main(f"{MATCH} disk/match".split()) == 0


def test_permute_on_a_disk_without_any_room_leaves_nothing(here, small, capfd) -> None:
    fill(small, 0)
    assert "disk/match/config.yaml: No space left on device" in run(capfd, f"{MATCH} disk/match")
    assert os.listdir(small) == ["filler"]


def test_training_on_a_full_disk_keeps_the_last_checkpoint(here, small, capfd) -> None:
    assert "disk/run/" in (line := run(capfd, f"{FIT} disk/run"))
    assert "No space left on device" in line
    assert [name for name in names(small / "run") if name.endswith((".tmp", ".lock"))] == []
    for checkpoint in (small / "run").rglob("*.ckpt"):
        assert torch.load(checkpoint, weights_only=True)["state_dict"]


def test_demo_on_a_full_disk(here, small, capfd) -> None:
    assert main(["demo", "--out", "disk/demo", "--num-seeds", "1"]) == 1
    *_, line = capfd.readouterr().err.splitlines()  # after the ends of the logs
    assert line.startswith("rebasin-lt: error: ")
    assert "failed" in line
    assert line.endswith(": No space left on device; the same command runs what is missing")
    assert [name for name in names(small / "demo") if name.endswith((".tmp", ".lock"))] == []


@pytest.mark.parametrize("command", [f"{MATCH} disk/new", f"{FIT} disk/new", "demo --out disk/new"])
def test_a_read_only_disk_is_named(here, small, capfd, command) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    assert "disk/new: Read-only file system" in run(capfd, command)


def test_files_without_permission_are_named(here, files) -> None:
    """As another user: root may do anything."""
    if os.getuid():
        pytest.skip("needs root, to become someone else")
    for name in ("a.ckpt", "good.mask.safetensors"):
        os.chmod(here / name, 0)
    os.chmod(here, 0o755)
    masked = MATCH.replace("a.ckpt", "b.ckpt")
    commands = {
        f"{MATCH} new": "a.ckpt is not a readable checkpoint: [Errno 13] Permission denied",
        f"{masked} new": "good.mask.safetensors is not a readable safetensors file",
        f"{masked.replace('--masks good.mask.safetensors', '')} new": "new: Permission denied",
    }
    code = f"""
import os
from rebasin_lt.cli import main
from rebasin_lt.lit.data.digits import Digits
import rebasin_lt.analyses.permute, rebasin_lt.report.analyses.permute, rebasin_lt.report.kit.figures
Digits().setup("test")
os.chdir({str(here)!r})
os.setuid(65534)
for command in {list(commands)!r}:
    print(main(command.split()), flush=True)
"""
    for parent in here.parents:
        if parent.owner() == "root" and parent != Path("/"):
            os.chmod(parent, parent.stat().st_mode | 0o011)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    lines = result.stderr.splitlines()
    assert result.stdout.split() == ["1"] * len(commands), result.stderr
    assert len(lines) == len(commands)
    assert all(text in line for text, line in zip(commands.values(), lines, strict=True)), lines
    assert not (here / "new").exists()
