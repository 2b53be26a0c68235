"""Mask and permutation files that are bad in one way each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from bad_checkpoints import cut, flipped
from safetensors.torch import save_file

from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.mask import Mask, prunable_names
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.symmetry.permutation import Permutation

MASK_ABOUT = {"format": "rebasin_lt.mask", "version": "1"}


def header(tensors: Any, length: int | None = None, rest: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    text = json.dumps(tensors).encode() if not isinstance(tensors, bytes) else tensors
    return (len(text) if length is None else length).to_bytes(8, "little") + text + rest


def write() -> None:
    network = Classifier().net
    names = prunable_names(network)
    good = Mask.ones_like(network.state_dict(), names)
    good.save("good.mask.safetensors")
    good.save("result.json")
    Permutation({"g": torch.arange(10)}).save("good.perm.safetensors")
    for kind in ("mask", "perm"):
        source = f"good.{kind}.safetensors"
        size = Path(source).stat().st_size
        cut(source, f"cut.{kind}.safetensors", 0.5)
        cut(source, f"empty.{kind}.safetensors", 0)
        flipped(source, f"flip_data.{kind}.safetensors", size - 8)
        flipped(source, f"flip_header.{kind}.safetensors", 12, 64)
        flipped(source, f"flip_length.{kind}.safetensors", 5, 128)
        huge = {"x": {"dtype": "BOOL", "shape": [2**40], "data_offsets": [0, 2**40]}}
        Path(f"huge.{kind}.safetensors").write_bytes(header(huge))
        Path(f"long.{kind}.safetensors").write_bytes(header({}, 2**60))
        Path(f"garbage.{kind}.safetensors").write_bytes(header(b"\xff\xfe{", rest=b"123"))
        Path(f"deep.{kind}.safetensors").write_bytes(header(b'{"x":' + b"[" * 20000 + b"}"))
        save_file({"x": torch.ones(3)}, f"foreign.{kind}.safetensors")
    _masks(dict(good), names)
    _permutations()


def _masks(good: dict[str, torch.Tensor], names: list[str]) -> None:
    def save(name: str, tensors: dict[str, torch.Tensor], **about: str) -> None:
        digest = {"sha256": hash_tensors(tensors)}
        save_file(tensors, f"{name}.mask.safetensors", metadata={**MASK_ABOUT, **digest, **about})

    save("future", good, version="3")
    save("mixed", good, version="2")
    signs = {name: torch.full(tensor.shape, 2, dtype=torch.int8) for name, tensor in good.items()}
    save("threes", signs, version="2")
    save("unsaid", {name: tensor.to(torch.int8) for name, tensor in good.items()})
    save("hash", good, sha256="0" * 64)
    save("other", {"other.weight": torch.ones(2, 2, dtype=torch.bool)})
    save("escape", {"../../escape": torch.ones(2, 2, dtype=torch.bool)})
    save("shape", {names[0]: torch.ones(2, 2, dtype=torch.bool)})
    save("float", {names[0]: torch.full((64, 64), float("nan"))})
    twos = {name: torch.full(tensor.shape, 2, dtype=torch.uint8).view(torch.bool) for name, tensor in good.items()}
    save("twos", twos)


def _permutations() -> None:
    about = {"format": "rebasin_lt.permutation", "format_version": "1"}
    save_file({"g": torch.arange(3)}, "future.perm.safetensors", metadata={**about, "format_version": "3"})
    save_file({"g": torch.tensor([0, 0, 1])}, "twice.perm.safetensors", metadata=about)
    save_file({"g": torch.tensor([0.0, 1.0])}, "float.perm.safetensors", metadata=about)
    save_file({"g": torch.tensor([0, 2**40])}, "large.perm.safetensors", metadata=about)
    within = {"nojson": "{", "noobject": "[]", "nonames": '{"g": [1]}'}
    for name, text in within.items():
        save_file({"g": torch.arange(3)}, f"{name}.perm.safetensors", metadata={**about, "within": text})
    save_file({"g": torch.zeros(2, 2, dtype=torch.long)}, "shape.perm.safetensors", metadata=about)


_KINDS = ("cut", "empty", "flip_header", "flip_length", "huge", "long", "garbage", "deep")
_UNREADABLE = [(name, 1, "is not a readable") for name in _KINDS]
MASK_CASES: list[tuple[str, int, str]] = [
    *((f"{name}.mask.safetensors", code, text) for name, code, text in _UNREADABLE),
    ("flip_data.mask.safetensors", 1, "flip_data.mask.safetensors"),
    ("foreign.mask.safetensors", 1, "is not a mask file of rebasin-lt (format None)"),
    ("good.perm.safetensors", 1, "is not a mask file of rebasin-lt (format 'rebasin_lt.permutation')"),
    ("future.mask.safetensors", 1, "has mask format version 3, this release reads 1 and 2: update it"),
    ("mixed.mask.safetensors", 1, "of dtype torch.bool, expected signs, int8 of -1, 0 or 1 each"),
    ("threes.mask.safetensors", 1, "of dtype torch.int8, expected signs, int8 of -1, 0 or 1 each"),
    ("unsaid.mask.safetensors", 1, "of dtype torch.int8, expected bools, 0 or 1 each"),
    ("hash.mask.safetensors", 1, "is damaged: its content does not match the hash written with it"),
    ("float.mask.safetensors", 1, "of dtype torch.float32, expected bools"),
    ("twos.mask.safetensors", 1, "expected bools, 0 or 1 each"),
    ("other.mask.safetensors", 2, "mask names other.weight, which the network does not have"),
    ("escape.mask.safetensors", 2, "mask names ../../escape, which the network does not have"),
    ("shape.mask.safetensors", 2, "has shape (2, 2), the network has (64, 64)"),
    ("a.ckpt", 1, "a.ckpt is not a readable safetensors file: it is an archive, as checkpoints are"),
    ("folder.ckpt", 2, "mask file folder.ckpt does not exist"),
]
UNFIT_FOR_ALL = [case for case in MASK_CASES if "network" not in case[2]]  # also where there is no network
PERMUTATION_CASES: list[tuple[str, int, str]] = [
    *((f"{name}.perm.safetensors", code, text) for name, code, text in _UNREADABLE),
    ("flip_data.perm.safetensors", 1, "permutation of g does not hold each of 0 to 9 once"),
    ("foreign.perm.safetensors", 1, "is not a permutation file of rebasin-lt"),
    ("good.mask.safetensors", 1, "is not a permutation file of rebasin-lt"),
    ("future.perm.safetensors", 1, "has permutation format version 3, this release reads 1 and 2: update it"),
    ("nojson.perm.safetensors", 1, "is not a readable permutation: its nested groups are no JSON"),
    ("noobject.perm.safetensors", 1, "is not a readable permutation: its nested groups are no object"),
    ("nonames.perm.safetensors", 1, "is not a readable permutation: its nested groups are no lists of names"),
    ("twice.perm.safetensors", 1, "does not hold each of 0 to 2 once"),
    ("float.perm.safetensors", 1, "permutation of g is torch.float32"),
    ("large.perm.safetensors", 1, "does not hold each of 0 to 1 once"),
    ("shape.perm.safetensors", 1, "of shape (2, 2), expected indices"),
    ("none.perm.safetensors", 2, "permutation none.perm.safetensors does not exist"),
]
