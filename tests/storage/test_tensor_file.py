"""What the table of bad files (tests/bad_input) cannot show of reading tensors."""

from __future__ import annotations

import pytest
import torch

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.storage.tensor_file import read_tensors


@pytest.mark.parametrize("archive", [True, False])
def test_reads_what_torch_writes(tmp_path, archive) -> None:
    shared = torch.randn(4)
    content = {"a": torch.randn(3, 4).t(), "b": [shared, shared[1:]], "c": torch.tensor(2), "d": {"e": (1, "x", None)}}
    content["f"] = torch.zeros(0, 5)
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=archive)
    read = read_tensors(tmp_path / "x.pt")
    assert read.keys() == content.keys()
    assert torch.equal(read["a"], content["a"])
    assert torch.equal(read["b"][1], shared[1:])
    assert read["d"] == {"e": (1, "x", None)}


def test_more_tensors_than_the_file_has_are_refused(tmp_path, monkeypatch) -> None:
    """Some releases of PyTorch may believe the length that a tensor in an archive declares and read past its end."""
    torch.save({"x": torch.zeros(7)}, tmp_path / "x.pt")
    monkeypatch.setattr(torch, "load", lambda *_, **__: {"x": torch.zeros(100_000)})
    with pytest.raises(BrokenFileError, match="declares 400000 bytes of tensors, more than it has: refused"):
        read_tensors(tmp_path / "x.pt")


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_that_is_cut_short_says_so(tmp_path, share) -> None:
    torch.save({"x": torch.zeros(10_000)}, tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BrokenFileError, match="x.pt is not a readable checkpoint: it is cut short"):
        read_tensors(tmp_path / "x.pt")
