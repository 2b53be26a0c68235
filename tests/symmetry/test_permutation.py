"""Permutations form a group that acts on tensors, and come back from files as they went in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import NETWORKS, grouped, mixed_state, packed_attention, recurrent, traced
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.symmetry.permutation import Permutation

by_network = pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name
        assert actual[name].dtype == tensor.dtype


@by_network
def test_inverse_undoes_bit_for_bit(build: Callable[[], nn.Module]) -> None:
    network, symmetry = traced(build)
    tensors = mixed_state(network)
    permutation = symmetry.random(torch.Generator().manual_seed(0))
    moved = symmetry.permute(tensors, permutation)
    assert any(not torch.equal(moved[name], tensors[name]) for name in tensors)
    assert_same(symmetry.permute(moved, permutation.inverse()), tensors)
    assert permutation.compose(permutation.inverse()) == symmetry.identity()
    assert permutation.inverse().compose(permutation) == symmetry.identity()


@by_network
def test_composition_is_one_after_the_other(build: Callable[[], nn.Module]) -> None:
    network, symmetry = traced(build)
    tensors = mixed_state(network)
    a, b = (symmetry.random(torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert_same(symmetry.permute(symmetry.permute(tensors, a), b), symmetry.permute(tensors, b.compose(a)))


@pytest.mark.parametrize("build", [grouped, packed_attention, recurrent], ids=lambda build: build.__name__)
def test_identity_and_groups_left_out_move_nothing(build: Callable[[], nn.Module]) -> None:
    network, symmetry = traced(build)
    tensors = mixed_state(network)
    assert_same(symmetry.permute(tensors, symmetry.identity()), tensors)
    assert_same(symmetry.permute(tensors, {}), tensors)
    whole = symmetry.random(torch.Generator().manual_seed(0))
    for group in symmetry.groups:  # one group after another is all of them
        tensors = symmetry.permute(tensors, {group: whole[group]})
    assert_same(tensors, symmetry.permute(mixed_state(network), whole))


def test_permuting_copies_even_what_stays() -> None:
    network, symmetry = traced(grouped)
    state = network.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    for tensor in symmetry.permute(state, symmetry.identity()).values():
        tensor.zero_()
    assert_same(dict(state), before)


def test_random_permutation_is_that_of_its_generator() -> None:
    _, symmetry = traced(grouped)
    first, again, other = (symmetry.random(torch.Generator().manual_seed(seed)) for seed in (5, 5, 8))
    assert first == again
    assert first != other
    assert first != {"not": "a permutation"}


def test_index_vectors_are_checked_and_copied() -> None:
    index = torch.tensor([2, 0, 1], dtype=torch.int32)
    permutation = Permutation({"a": index})
    index.zero_()
    assert permutation["a"].tolist() == [2, 0, 1]
    assert permutation["a"].dtype == torch.int64
    assert repr(permutation) == "Permutation(1 groups, 3 units, 3 moved)"
    for wrong in ([0, 0, 1], [1, 2, 3], [-1, 0, 1]):
        with pytest.raises(InputError, match="permutation of a does not hold each of 0 to 2 once"):
            Permutation({"a": torch.tensor(wrong)})
    for wrong in (torch.tensor([0.0, 1.0]), torch.tensor([True, False]), torch.eye(2).long()):
        with pytest.raises(InputError, match=r"permutation of a is torch\.\w+ of shape \(2.*\), expected indices"):
            Permutation({"a": wrong})


def test_composition_refuses_other_groups_and_sizes() -> None:
    three, four = (Permutation({"a": torch.arange(size)}) for size in (3, 4))
    with pytest.raises(InputError, match="do not fit each other: a has 3 units in one and 4 in the other"):
        three.compose(four)
    with pytest.raises(InputError, match="do not fit each other: a has 3 units in one and no in the other"):
        three.compose(Permutation({}))


def test_file_brings_back_the_permutation_and_its_metadata(tmp_path: Path) -> None:
    _, symmetry = traced(recurrent)
    permutation = symmetry.random(torch.Generator().manual_seed(0))
    path = tmp_path / "aligned.perm.safetensors"
    permutation.save(path, method="activation", objective="0.75")
    assert Permutation.load(path) == Permutation.load(str(path)) == permutation
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {
            "format": "rebasin_lt.permutation",
            "format_version": "1",
            "method": "activation",
            "objective": "0.75",
        }
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]  # nothing temporary is left


def test_file_of_no_groups_comes_back(tmp_path: Path) -> None:
    Permutation({}).save(tmp_path / "none.perm.safetensors")
    assert len(Permutation.load(tmp_path / "none.perm.safetensors")) == 0


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"permutation .*nowhere\.perm\.safetensors does not exist"):
        Permutation.load(tmp_path / "nowhere.perm.safetensors")


def test_foreign_and_broken_files_are_told_apart_from_permutations(tmp_path: Path) -> None:
    whole, foreign, broken = (tmp_path / f"{name}.safetensors" for name in ("whole", "foreign", "broken"))
    Permutation({"a": torch.arange(30)}).save(whole)
    save_file({"a": torch.arange(3)}, foreign)
    with pytest.raises(BrokenFileError, match=r"foreign\.safetensors is not a permutation file of rebasin-lt"):
        Permutation.load(foreign)
    save_file(
        {"a": torch.tensor([0, 0, 1])}, foreign, metadata={"format": "rebasin_lt.permutation", "format_version": "1"}
    )
    with pytest.raises(
        BrokenFileError, match="not a readable permutation: permutation of a does not hold each of 0 to 2"
    ):
        Permutation.load(foreign)
    for content in (whole.read_bytes()[:-8], whole.read_bytes()[:5], b"", b"PK\x03\x04 a pickle"):
        broken.write_bytes(content)
        with pytest.raises(BrokenFileError, match=r"broken\.safetensors is not a readable safetensors file: "):
            Permutation.load(broken)
