import os

import pytest
import torch

from rebasin_lt.storage.files import (
    append_text,
    atomic_path,
    hash_tensors,
    is_temporary,
    remove_temporaries,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    before = path.read_bytes()

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.json"]


def test_written_files_are_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain").write_text("x")
    write_json(tmp_path / "atomic", {})
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_hash_sees_values_names_dtypes_and_shapes_but_not_layout_or_order():
    weight = torch.randn(2, 3, 4, 4)
    digest = hash_tensors({"a": weight, "b": torch.ones(2)})
    assert digest == hash_tensors({"b": torch.ones(2), "a": weight.to(memory_format=torch.channels_last)})
    changed = weight.clone()
    changed[0, 0, 0, 0] += 1e-3
    others = [{"a": changed, "b": torch.ones(2)}, {"c": weight, "b": torch.ones(2)}]
    others += [{"a": weight.double(), "b": torch.ones(2)}, {"a": weight.reshape(6, 4, 4), "b": torch.ones(2)}]
    assert digest not in [hash_tensors(other) for other in others]
    assert len({hash_tensors(other) for other in others}) == 4


def test_hash_takes_scalars_and_bools():
    assert hash_tensors({"n": torch.tensor(3)}) != hash_tensors({"n": torch.tensor(4)})
    assert hash_tensors({"m": torch.tensor([True])}) != hash_tensors({"m": torch.tensor([False])})


def test_file_and_then_folder_are_synced_around_the_renaming(tmp_path, monkeypatch):
    done = []
    real_sync, real_replace = os.fsync, os.replace

    def fsync(handle):
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        real_sync(handle)

    def replace(source, target):
        done.append("renamed")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_json(tmp_path / "a.json", {})
    assert done == ["file", "renamed", "folder"]


def test_what_is_appended_is_behind_what_was_there(tmp_path):
    append_text(tmp_path / "log", "a\n")
    append_text(tmp_path / "log", "größer\n")
    assert (tmp_path / "log").read_bytes() == "a\ngrößer\n".encode()


def test_a_full_disk_is_named_by_what_is_appended_to():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        append_text("/dev/full", "a\n")


def test_what_a_killed_process_left_is_told_apart_and_removed(tmp_path):
    (tmp_path / "imp").mkdir()
    left = tmp_path / "imp" / ".a.ckpt.x1y2z3.tmp"
    left.touch()
    (tmp_path / ".a.ckpt").touch()
    assert is_temporary(left)
    assert not is_temporary(tmp_path / ".a.ckpt")
    remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".a.ckpt"]
