"""Checkpoints that are bad in one way each: `write` makes them in the current folder, `CASES` says what they cause."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.mask import Mask, prunable_names

CANARY = "executed"


class Evil:
    """Makes the folder `executed` when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (CANARY,)


class Whole(torch.nn.Linear):
    """A model that is saved whole, as the published code does."""


def content(**settings: Any) -> dict[str, Any]:
    """A checkpoint of an untrained network, as ours look."""
    module = Classifier(**settings)
    about = {"format_version": 1, **module.architecture(), "data": {"name": "digits"}}
    return {"state_dict": module.state_dict(), "rebasin_lt": about}


def rezip(
    source: str, target: str, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> None:
    """Copy an archive with every entry's content changed, checksums and all."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))


def flipped(source: str, target: str, at: int, bit: int = 1) -> None:
    data = bytearray(Path(source).read_bytes())
    data[at] ^= bit
    Path(target).write_bytes(data)


def cut(source: str, target: str, share: float) -> None:
    data = Path(source).read_bytes()
    Path(target).write_bytes(data[: int(share * len(data))])


def write() -> None:
    torch.save(content(), "a.ckpt")
    torch.save(content(), "b.ckpt")
    _bytes()
    _hostile()
    _metadata()
    _states()


def _bytes() -> None:
    for percent in (0, 10, 50, 90, 99):
        cut("a.ckpt", f"cut{percent}.ckpt", percent / 100)
    archive = zipfile.ZipFile("a.ckpt")
    weights = max(archive.infolist(), key=lambda entry: entry.file_size)
    program = next(entry for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
    flipped("a.ckpt", "flip_weights.ckpt", weights.header_offset + 2000)
    flipped("a.ckpt", "flip_program.ckpt", program.header_offset + 500, 64)
    flipped("a.ckpt", "flip_directory.ckpt", archive.start_dir + 20)
    flipped("a.ckpt", "flip_magic.ckpt", 0)
    Path("text.ckpt").write_text("not a checkpoint")
    Path("folder.ckpt").mkdir()
    Path("zeros.ckpt").write_bytes(bytes(4096))


def _hostile() -> None:
    torch.save({"state_dict": {"x": Evil()}}, "evil.ckpt")
    torch.save({**content(), "callbacks": {"x": Evil()}}, "evil_callback.ckpt")
    torch.save({"state_dict": {"x": Evil()}}, "evil_legacy.ckpt", _use_new_zipfile_serialization=False)
    Path("evil_bare.ckpt").write_bytes(pickle.dumps(Evil()))
    torch.save(Whole(2, 2), "whole.ckpt")
    rezip("a.ckpt", "bomb.ckpt", lambda name, data: data, zipfile.ZIP_DEFLATED)
    torch.save({"x": torch.zeros(2**22)}, "zeros_large.ckpt")
    rezip("zeros_large.ckpt", "bomb_large.ckpt", lambda name, data: data, zipfile.ZIP_DEFLATED)
    Path("zeros_large.ckpt").unlink()
    huge = torch.zeros(1).expand(2**40)
    torch.save({**content(), "state_dict": {"net.x": huge}}, "huge.ckpt")
    torch.save({**content(), "rebasin_lt_mask": {"x": torch.ones(1, dtype=torch.bool).expand(2**40)}}, "huge_mask.ckpt")
    torch.save({"x": torch.zeros(7)}, "seven.pt")
    lie = (b"K\x07t", b"J\x00\x00\x10\x00t"), (b"K\x07\x85", b"J\x00\x00\x10\x00\x85")
    rezip("seven.pt", "lie.ckpt", lambda _, data: data.replace(*lie[0]).replace(*lie[1]))
    Path("legacy_lie.ckpt").write_bytes(_legacy().replace(b"K\x07", b"J\x00\x00\x00\x7f"))
    endless: list[Any] = []
    endless.append(endless)
    torch.save({**content(), "rebasin_lt": endless}, "endless.ckpt")


def _legacy() -> bytes:
    buffer = io.BytesIO()
    torch.save({"x": torch.zeros(7)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _metadata() -> None:
    changes: dict[str, dict[str, Any]] = {
        "future": {"format_version": 2},
        "version_text": {"format_version": "1"},
        "arch_number": {"arch": 5},
        "arch_unknown": {"arch": "../../etc/passwd"},
        "arch_code": {"arch": "os:system"},
        "width_text": {"width": "wide"},
        "width_negative": {"width": -1},
        "classes_none": {"num_classes": None},
        "shape_text": {"input_shape": "8x8"},
        "shape_two": {"input_shape": [8, 8]},
        "data_list": {"data": ["digits"]},
        "data_nested": {"data": {"name": "digits", "root": {"a": 1}}},
        "data_unknown": {"data": {"name": "../../digits"}},
        "data_argument": {"data": {"name": "digits", "evil": 1}},
        "data_type": {"data": {"name": "digits", "batch_size": "many"}},
        "data_root": {"data": {"name": "digits", "root": 5}},
        "data_nameless": {"data": {"root": "/"}},
        "data_writes": {"data": {"name": "cifar10", "root": "elsewhere", "download": True}},
    }
    for name, change in changes.items():
        good = content()
        torch.save({**good, "rebasin_lt": {**good["rebasin_lt"], **change}}, f"{name}.ckpt")
    good = content()
    del good["rebasin_lt"]["width"]
    torch.save(good, "no_width.ckpt")
    torch.save({**good, "rebasin_lt": ["format_version", 1]}, "metadata_list.ckpt")


def _states() -> None:
    good = content()
    state, names = good["state_dict"], [f"net.{name}" for name in prunable_names(Classifier().net)]
    first = names[0]
    changes: dict[str, Any] = {
        "nan": {**state, first: state[first] * float("nan")},
        "infinite": {**state, first: state[first] + float("inf")},
        "shape": {**state, first: state[first][:5]},
        "missing": {name: tensor for name, tensor in state.items() if name != first},
        "extra": {**state, "net.../../escape": torch.zeros(2)},
        "numbers": {**state, first: 3},
        "number_names": {1: state[first]},
        "state_list": list(state.values()),
        "sparse": {**state, first: state[first].to_sparse()},
    }
    for name, changed in changes.items():
        torch.save({**good, "state_dict": changed}, f"{name}.ckpt")
    torch.save([1, 2], "list.ckpt")
    torch.save(torch.zeros(3), "tensor.ckpt")
    mask = dict(Mask.ones_like(Classifier().net.state_dict(), prunable_names(Classifier().net)))
    hashed = {**good["rebasin_lt"], "mask_sha256": "0" * 64}
    torch.save({**good, "rebasin_lt_mask": mask, "rebasin_lt": hashed}, "mask_hash.ckpt")
    torch.save({**good, "rebasin_lt_mask": {"x": torch.ones(2)}}, "mask_float.ckpt")
    torch.save({**good, "rebasin_lt_mask": [1]}, "mask_list.ckpt")
    pruned = {f"{name}_orig": tensor for name, tensor in Classifier().net.state_dict().items()}
    torch.save(pruned, "orig_alone.pt")
    torch.save({**pruned, **{n.replace("_orig", "_mask"): t[:1] for n, t in pruned.items()}}, "orig_shape.pt")
    torch.save({**pruned, **{n.replace("_orig", "_mask"): t for n, t in pruned.items()}}, "orig_values.pt")


UNREADABLE, PICKLED = "is not a readable checkpoint", "holds pickled Python objects, which are never loaded"
# file, exit code, what the message says
CASES: list[tuple[str, int, str]] = [
    *((f"cut{percent}.ckpt", 1, UNREADABLE) for percent in (0, 10, 50, 90, 99)),
    ("flip_weights.ckpt", 1, "is damaged: the checksum of"),
    ("flip_program.ckpt", 1, "is damaged: the checksum of"),
    ("flip_directory.ckpt", 1, "is "),
    ("flip_magic.ckpt", 1, "is "),
    ("text.ckpt", 1, ""),
    ("folder.ckpt", 2, "checkpoint folder.ckpt is a folder: give a file, such as folder.ckpt/last.ckpt"),
    ("zeros.ckpt", 1, ""),
    ("evil.ckpt", 1, PICKLED),
    ("evil_callback.ckpt", 1, PICKLED),
    ("evil_legacy.ckpt", 1, PICKLED),
    ("evil_bare.ckpt", 1, UNREADABLE),
    ("whole.ckpt", 1, "save tensors only, as by torch.save(model.state_dict(), path)"),
    ("bomb.ckpt", 1, "is a compressed archive"),
    ("bomb_large.ckpt", 1, "is a compressed archive"),
    ("huge.ckpt", 1, "declares a tensor of 4398046511104 bytes and stores 4 of them"),
    ("huge_mask.ckpt", 1, "declares a tensor of 1099511627776 bytes"),
    ("lie.ckpt", 1, "lie.ckpt"),
    ("legacy_lie.ckpt", 1, "legacy_lie.ckpt"),
    ("endless.ckpt", 1, "has metadata of type list"),
    ("future.ckpt", 1, "has format version 2, this release reads 1: update it"),
    ("version_text.ckpt", 1, "has format_version of type str, expected int"),
    ("metadata_list.ckpt", 1, "has metadata of type list, expected values by name"),
    ("arch_number.ckpt", 1, "has arch of type int, expected str"),
    ("width_text.ckpt", 1, "has width of type str, expected int"),
    ("classes_none.ckpt", 1, "has num_classes of type NoneType, expected int"),
    ("shape_text.ckpt", 1, "has input_shape of type str, expected list"),
    ("shape_two.ckpt", 1, "has input_shape [8, 8], expected channels, height and width"),
    ("no_width.ckpt", 1, "says its arch but not its width"),
    ("data_list.ckpt", 1, "has data of type list, expected dict"),
    ("state_list.ckpt", 1, "has a state dict of type list, expected tensors by name"),
    ("number_names.ckpt", 1, "expected tensors by name"),
    ("sparse.ckpt", 1, "holds a torch.sparse_coo tensor"),
    ("list.ckpt", 1, "holds a list, expected a checkpoint or a state dict"),
    ("tensor.ckpt", 1, "holds a Tensor, expected a checkpoint or a state dict"),
    ("mask_hash.ckpt", 1, "is damaged: its mask does not match the hash written with it"),
    ("mask_float.ckpt", 1, "has a mask that is not of dtype torch.bool"),
    ("mask_list.ckpt", 1, "has a mask of type list"),
]
# the same, for those who load the network in it
NETWORK_CASES: list[tuple[str, int, str]] = [
    ("nan.ckpt", 1, "with values that are not finite: did it diverge?"),
    ("infinite.ckpt", 1, "with values that are not finite"),
    ("shape.ckpt", 2, "of shape (5, 64), the network has (64, 64)"),
    ("missing.ckpt", 2, "which the network has"),
    ("extra.ckpt", 2, "has ../../escape, which the network lacks"),
    ("numbers.ckpt", 1, "of type int, expected tensors by name"),
]
