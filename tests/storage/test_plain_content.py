"""Whatever a save wrote is read back; what could not be is refused before anything is written, by its key."""

from __future__ import annotations

import enum
import functools
from collections import Counter, OrderedDict, defaultdict, namedtuple
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.storage.files import write_tensors
from rebasin_lt.storage.plain_content import plain_content
from rebasin_lt.storage.tensor_file import read_tensors

Pair = namedtuple("Pair", "a b")


class Level(enum.IntEnum):
    HIGH = 3


class Mode(enum.StrEnum):
    MAX = "max"


class Colour(enum.Enum):
    RED = 1


def tagged(tensor: torch.Tensor) -> torch.Tensor:
    tensor.tag = object()
    return tensor


SAME = [
    None,
    True,
    3,
    -(2**70),
    0.1,
    float("inf"),
    1 + 2j,
    "text",
    "",
    "ü\n",
    b"bytes",
    bytearray(b"x"),
    (1, [2, {"a": 3}]),
]
SAME += [torch.arange(3.0).expand(2, 3), torch.arange(6.0)[::2], torch.arange(6.0).view(2, 3).t()]
SAME += [{1, 2}, {3: "number", None: 0, (1, 2): 1}, torch.float16, torch.device("cpu"), torch.Size([2, 3])]
SAME += [
    OrderedDict(b=1, a=2),
    Counter("aab"),
    torch.arange(3),
    torch.ones(2, 2).t(),
    torch.tensor(1.5),
    torch.zeros(0, 3),
]
BECOMES = [
    (np.float64(0.1), 0.1),
    (np.float32(1.5), 1.5),
    (np.longdouble(0.5), 0.5),
    (np.int64(3), 3),
    (np.bool_(True), True),
    (np.str_("x"), "x"),
    (np.bytes_(b"x"), b"x"),
    (np.complex128(1j), 1j),
    (np.logspace(-3, -1, 3)[1], 0.01),
    (np.array(2.5), 2.5),
    (Level.HIGH, 3),
    (Mode.MAX, "max"),
    (Path("a") / "b", "a/b"),
    (Pair(1, np.int8(2)), (1, 2)),
    (frozenset({1}), {1}),
    (defaultdict(list, a=[np.float64(1)]), {"a": [1.0]}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (AttributeDict(lr=np.float64(0.1)), {"lr": 0.1}),
    (nn.Parameter(torch.ones(2)), torch.ones(2)),
    (tagged(torch.ones(2)), torch.ones(2)),
    ({np.int64(1): 2}, {1: 2}),
]
REFUSED = [
    (nn.MSELoss(), "torch.nn.modules.loss.MSELoss"),
    (nn.MSELoss, "type"),
    (len, "builtin_function_or_method"),
    (lambda: None, "function"),
    (functools.partial(int, 3), "functools.partial"),
    (np.arange(3), "numpy.ndarray"),
    (np.datetime64("2026-01-01"), "datetime.date"),
    (Colour.RED, r"(tests\.storage\.)?test_plain_content.Colour"),
    (SimpleNamespace(a=1), "types.SimpleNamespace"),
    (range(3), "range"),
    (torch.Generator(), r"torch\._?C?\.?.*Generator"),
    (torch.eye(2).to_sparse(), "torch.Tensor"),
    (torch.zeros(2, device="meta"), "torch.Tensor"),
    (object(), "object"),
]


def same(a: object, b: object) -> bool:
    if isinstance(b, torch.Tensor):
        return type(a) is torch.Tensor and torch.equal(a, b)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize(("value", "read"), [*zip(SAME, SAME, strict=True), *BECOMES], ids=repr)
def test_whatever_was_written_is_read_back(tmp_path, value, read) -> None:
    write_tensors(tmp_path / "x.pt", {"callbacks": {"mine": [value]}})
    assert same(read_tensors(tmp_path / "x.pt")["callbacks"]["mine"][0], read)


@pytest.mark.parametrize(("value", "kind"), REFUSED, ids=[kind for _, kind in REFUSED])
def test_what_would_have_to_be_unpickled_is_refused_by_its_key(tmp_path, value, kind) -> None:
    write_tensors(tmp_path / "x.pt", {"good": 1})
    with pytest.raises(InputError, match=rf"^callbacks.mine.0.best is an? {kind}, which would have to be unpickled"):
        write_tensors(tmp_path / "x.pt", {"callbacks": {"mine": [{"best": value}]}})
    assert read_tensors(tmp_path / "x.pt") == {"good": 1}


def test_hyperparameters_are_said_how_to_leave_out() -> None:
    with pytest.raises(InputError, match=r"hyper_parameters.loss is .*save_hyperparameters\(ignore=\['loss'\]\)"):
        plain_content({"hyper_parameters": {"lr": 0.1, "loss": nn.MSELoss()}})


def test_what_contains_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(InputError, match="is nested more than 100 deep"):
        plain_content({"x": value})


def test_a_state_dict_keeps_its_versions_and_its_shared_memory(tmp_path) -> None:
    layer = nn.Linear(2, 2)
    layer.tied = layer.weight
    write_tensors(tmp_path / "x.pt", layer.state_dict())
    read = read_tensors(tmp_path / "x.pt")
    assert read._metadata == layer.state_dict()._metadata
    assert read["tied"].data_ptr() == read["weight"].data_ptr()
