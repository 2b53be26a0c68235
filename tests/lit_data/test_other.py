"""Data of any kind as analyses look at it: order, number, what it may be, and what is refused in one line."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import own
import pytest
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from rebasin_lt.errors import InputError
from rebasin_lt.lit.data.other import LoadersOf, OtherData
from rebasin_lt.lit.data.registry import build_data

NUMBERS = torch.arange(10.0)[:, None]


class Numbers(LightningDataModule):
    """Ten numbers in a drawn order, with lots of a batch's own; `loaders` are those that a test says."""

    def __init__(self, train: Any = None, val: Any = None) -> None:
        super().__init__()
        self.train, self.val, self.stages = train, val, []

    def setup(self, stage: str) -> None:
        self.stages.append(stage)

    def train_dataloader(self) -> Any:
        if self.train is not None:
            return self.train
        return DataLoader(TensorDataset(NUMBERS), 4, shuffle=True, collate_fn=self.collate)

    def val_dataloader(self) -> Any:
        return self.val

    def collate(self, rows: list[tuple[torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
        numbers = torch.stack([row[0] for row in rows])
        return numbers, torch.rand(len(rows))


def named(monkeypatch: pytest.MonkeyPatch, function: Any) -> str:
    """What a command calls a function."""
    module = types.ModuleType("named_here")
    module.make = function
    monkeypatch.setitem(sys.modules, "named_here", module)
    return "named_here:make"


def order(batches: Any) -> list[list[float]]:
    return [[*inputs.flatten().tolist(), *drawn.tolist()] for inputs, drawn in batches]


def test_every_pass_is_the_same_and_takes_no_random_numbers_of_others() -> None:
    batches = OtherData(Numbers()).sweep(seed=3)
    before = torch.get_rng_state()
    first = order(batches)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    interleaved = [[*a.flatten().tolist(), *b.tolist()] for (a, b), _ in zip(batches, batches, strict=True)]
    assert first == order(batches) == order(OtherData(Numbers()).sweep(seed=3)) == interleaved
    assert first != order(OtherData(Numbers()).sweep(seed=4))
    assert [len(row) for row in first] == [8, 8, 4]


def test_a_generator_of_the_loaders_own_does_not_change_the_second_pass() -> None:
    loader = DataLoader(TensorDataset(NUMBERS, NUMBERS), 3, shuffle=True, generator=torch.Generator().manual_seed(5))
    batches = OtherData(Numbers(loader)).sweep()
    first, second = ([inputs.tolist() for inputs, _ in batches] for _ in range(2))
    assert first == second


def test_so_many_examples_are_the_first_and_the_last_batch_is_cut() -> None:
    data = OtherData(Numbers())
    whole, part = list(data.sweep(seed=1)), list(data.sweep(seed=1, num_images=6))
    assert [len(inputs) for inputs, _ in part] == [4, 2]
    assert len(data.sweep(num_images=6)) == 2
    assert len(data.sweep()) == 3
    assert torch.equal(torch.cat([inputs for inputs, _ in part]), torch.cat([inputs for inputs, _ in whole])[:6])
    dicts = [{"x": NUMBERS[:4], "meta": {"y": NUMBERS[:4], "scale": torch.ones(2)}, "names": list("abcd")}]
    (cut,) = OtherData(Numbers(dicts)).sweep(num_images=3)
    assert [len(cut["x"]), len(cut["meta"]["y"]), len(cut["meta"]["scale"])] == [3, 3, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_images": 11}, "num_images is 11, but train of .*Numbers has 10 examples"),
        ({"num_images": 0}, "num_images is 0, expected at least 1"),
        ({"batch_size": 4}, "batch_size is 4, but .*Numbers makes its own batches: leave it out"),
        ({"augment": True}, "augment is true, but .*Numbers gives its training batches as it does in training"),
    ],
)
def test_what_has_no_effect_on_its_loaders_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OtherData(Numbers()).sweep(**settings)


def test_more_examples_than_a_loader_without_length_gives_are_refused() -> None:
    with pytest.raises(InputError, match="num_images is 11, but train of .*Numbers has 10 examples"):
        list(OtherData(Numbers([(NUMBERS, NUMBERS)])).sweep(num_images=11))
    with pytest.raises(InputError, match="num_images is 1, but no tensor in a batch of train of .*Numbers says its"):
        list(OtherData(Numbers([["text"]])).sweep(num_images=1))


def generated() -> Iterator[Any]:
    yield NUMBERS


def failing(*_: Any) -> Any:
    raise KeyError("not there")


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([DataLoader(NUMBERS), DataLoader(NUMBERS)], "train_dataloader of .*Numbers returns 2 loaders, expected one"),
        ({"x": DataLoader(NUMBERS)}, "train_dataloader of .*Numbers returns 1 loaders, expected one"),
        (
            generated(),
            "train_dataloader of .*Numbers returns a generator, which is used up .*: return a loader, such as",
        ),
        ([], "data .*Numbers has no train_dataloader: write it"),
        (DataLoader(NUMBERS, collate_fn=failing), "train of .*Numbers gives no batch: KeyError: 'not there'"),
        (3, "train of .*Numbers gives no batch: TypeError: 'int' object is not iterable"),
    ],
)
def test_what_gives_no_batches_is_refused_in_one_line(loader: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        list(OtherData(Numbers(loader)).sweep())
    assert len(str(caught.value).splitlines()) == 1


def test_the_only_one_of_a_list_of_loaders_is_taken() -> None:
    assert len(list(OtherData(Numbers([DataLoader(NUMBERS, 5)])).sweep())) == 2


def test_a_method_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Numbers, "setup", failing)
    with pytest.raises(InputError, match="data .*Numbers fails in setup: KeyError: 'not there'"):
        OtherData(Numbers()).sweep()


def test_test_batches_are_those_of_validation_where_there_are_no_others() -> None:
    module = Numbers(val=[(NUMBERS, NUMBERS)])
    data = OtherData(module)
    assert len(list(data.sweep("test"))) == 1
    data.sweep("train")
    assert module.stages == ["fit"]
    with pytest.raises(InputError, match="data .*Numbers has no test_dataloader and no val_dataloader: write it"):
        OtherData(Numbers()).sweep("test")


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")  # of Lightning's own loaders, without a GPU
@pytest.mark.parametrize(
    ("returned", "sizes"),
    [
        ({"train": [NUMBERS], "test": [NUMBERS] * 2}, (1, 2)),
        (([NUMBERS], [NUMBERS] * 2), (1, 2)),
        ([NUMBERS] * 3, (3, 3)),
        (Numbers([NUMBERS], [NUMBERS] * 2), (1, 2)),
        (LightningDataModule.from_datasets(TensorDataset(NUMBERS), test_dataset=TensorDataset(NUMBERS[:2])), (10, 2)),
    ],
)
def test_a_function_returns_loaders_or_a_data_module(monkeypatch, returned: Any, sizes: tuple[int, int]) -> None:
    data = build_data(named(monkeypatch, lambda size=0: returned), size=4, seed=3)  # a seed for who takes one
    assert tuple(len(list(data.sweep(split))) for split in ("train", "test")) == sizes
    assert data.settings() is None  # of a function in a function, which nobody can import


def test_settings_make_the_data_again() -> None:
    data = build_data("own:TextTuples", size=9)
    assert data.settings() == {"name": "own:TextTuples", "batch_size": 16, "size": 9}
    assert build_data("own:text_loaders", size=9).settings() == {"name": "own:text_loaders", "size": 9}
    again = build_data(**data.settings())
    assert [ids.tolist() for ids, _, _ in again.sweep()] == [ids.tolist() for ids, _, _ in data.sweep()]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "data x:y returned train: NoneType, val: NoneType.*, expected a LightningDataModule, a dict of loaders"),
        ({"trian": [NUMBERS]}, "data x:y returned trian: list, expected"),
        ({}, "data x:y returned nothing, expected"),
    ],
)
def test_what_are_no_loaders_is_refused(returned: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LoadersOf("x:y", returned)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own:WORDS", "data is 'own:WORDS', which is a int, expected a LightningDataModule, or a function"),
        ("own:Rows", "data is 'own:Rows', which is a Rows, expected a LightningDataModule, or a function"),
    ],
)
def test_a_name_of_something_else_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_data(name)


def test_a_maker_that_fails_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="data named_here:make cannot be made with {}: KeyError: 'not there'"):
        build_data(named(monkeypatch, failing))
    with pytest.raises(InputError, match="data own:TextData has no argument 'root': expected batch_size, size"):
        build_data("own:TextData", root="there")
    assert own.WORDS
