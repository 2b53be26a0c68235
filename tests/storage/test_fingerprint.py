"""A fingerprint is another one wherever a file that we write is another one, however little of it is read."""

from __future__ import annotations

import os

import pytest
import torch

from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.files import write_tensors
from rebasin_lt.storage.fingerprint import WHOLE, fingerprint, is_whole


def test_what_is_no_file_has_none(tmp_path):
    assert fingerprint(tmp_path / "none") is None
    assert fingerprint(tmp_path) is None
    (tmp_path / "file").touch()
    assert fingerprint(tmp_path / "file" / "below") is None


@pytest.mark.parametrize("size", [1, 1000, WHOLE])
def test_every_byte_of_a_small_file_counts_and_no_time_does(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    first = fingerprint(path)
    os.utime(path, (1, 1))
    assert fingerprint(path) == first
    for place in {0, size // 2, size - 1}:
        changed = bytearray(content[:size])
        changed[place] ^= 1
        path.write_bytes(changed)
        assert fingerprint(path) != first
    path.write_bytes(content[: size - 1])
    assert fingerprint(path) != first


@pytest.mark.parametrize("count", [1, 1500])
def test_one_number_of_a_large_checkpoint_counts_in_whichever_tensor(tmp_path, count):
    tensors = {f"layer.{k}": torch.zeros(max(100, 10**5 // count)) for k in range(count)}
    path = tmp_path / "a.ckpt"
    write_tensors(path, {"state_dict": tensors})
    size, first = path.stat().st_size, fingerprint(path)
    write_tensors(path, {"state_dict": tensors})
    assert fingerprint(path) == first
    for name in {"layer.0", f"layer.{count // 2}", f"layer.{count - 1}"}:
        tensors[name][50] += 1
        write_tensors(path, {"state_dict": tensors})
        assert path.stat().st_size == size > WHOLE
        assert fingerprint(path) != first
        tensors[name][50] -= 1


def test_one_weight_of_a_large_mask_counts(tmp_path):
    path, mask = tmp_path / "a.mask.safetensors", torch.arange(10**6) % 2 == 0
    seen = set()
    for place in (0, 500_000, 999_998):
        moved = mask.clone()
        moved[place], moved[place + 1] = False, True  # the same sparsity
        Mask({"weight": moved}).save(path)
        seen.add((path.stat().st_size, fingerprint(path)))
    assert len({size for size, _ in seen}) == 1
    assert len(seen) == 3


def test_files_that_were_cut_short_are_not_whole(tmp_path):
    write_tensors(tmp_path / "a.ckpt", {"state_dict": {"weight": torch.zeros(1000)}})
    Mask({"weight": torch.ones(1000, dtype=torch.bool)}).save(tmp_path / "a.mask.safetensors")
    for path in (tmp_path / "a.ckpt", tmp_path / "a.mask.safetensors"):
        assert is_whole(path)
        for size in (path.stat().st_size - 1, 500, 4, 0):
            os.truncate(path, size)
            assert not is_whole(path), (path, size)
    assert not is_whole(tmp_path / "none.ckpt")
