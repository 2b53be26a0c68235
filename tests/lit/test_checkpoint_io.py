"""Lightning's checkpoints are written and read as ours."""

from __future__ import annotations

import os

import pytest
import torch

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.checkpoint_io import SafeCheckpointIO
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data.digits import Digits


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_what_a_trainer_saves_can_be_resumed(trainer, tmp_path) -> None:
    data, path = Digits(), tmp_path / "deep" / "last.ckpt"
    first = trainer(1)
    assert isinstance(first.strategy.checkpoint_io, SafeCheckpointIO)
    first.fit(Classifier(), datamodule=data)
    first.save_checkpoint(path)
    assert os.listdir(path.parent) == ["last.ckpt"]
    second = trainer(2)
    second.fit(Classifier(), datamodule=data, ckpt_path=str(path))
    assert second.current_epoch == 2


def test_a_crash_while_saving_leaves_the_last_checkpoint(tmp_path, monkeypatch) -> None:
    path = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"state_dict": {"x": torch.ones(3)}}, path)

    def half(content, file) -> None:
        file.write(b"PK half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        SafeCheckpointIO().save_checkpoint({"state_dict": {}}, path)
    assert torch.equal(SafeCheckpointIO().load_checkpoint(path)["state_dict"]["x"], torch.ones(3))
    assert os.listdir(tmp_path) == ["last.ckpt"]


@pytest.mark.parametrize("weights_only", [None, False])
def test_nobody_can_ask_it_to_unpickle(tmp_path, monkeypatch, weights_only) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"state_dict": {"x": Evil()}}, "evil.ckpt")
    with pytest.raises(BrokenFileError, match="holds pickled Python objects, which are never loaded"):
        SafeCheckpointIO().load_checkpoint("evil.ckpt", weights_only=weights_only)
    assert os.listdir() == ["evil.ckpt"]
