import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.pruning.allocation import random_erk, random_uniform
from rebasin_lt.pruning.degrees import degree_report
from rebasin_lt.pruning.magnitude import magnitude_prune
from rebasin_lt.pruning.mask import Mask


def random_mask(seed=0, keep=0.3):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (8, 4), "2.weight": (3, 8)}
    return Mask({name: torch.rand(shape, generator=generator) < keep for name, shape in shapes.items()})


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def test_ones_like_covers_matrices_and_leaves_vectors_dense():
    mask = Mask.ones_like(network().state_dict())
    assert list(mask) == ["0.weight", "2.weight"]
    assert mask.sparsity == 0
    assert mask.num_weights == 56


def test_sparsity_counts_over_all_tensors_and_over_the_whole_model():
    mask = Mask({"a": torch.tensor([[True, False], [False, False]]), "b": torch.ones(6, 1, dtype=torch.bool)})
    assert mask.sparsity == pytest.approx(0.3)
    assert mask.model_sparsity(30) == pytest.approx(0.1)
    assert [row["sparsity"] for row in mask.report()] == [0.75, 0.0]


def test_apply_zeroes_the_pruned_weights_alone():
    model, mask = network(), random_mask()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    mask.apply_(model)
    for name, tensor in model.state_dict().items():
        expected = before[name] * mask[name] if name in mask else before[name]
        assert torch.equal(tensor, expected)


def test_save_and_load_keep_mask_and_metadata(tmp_path):
    mask = random_mask()
    mask.save(tmp_path / "m.mask.safetensors", stage="imp")
    loaded, about = Mask.load_with_metadata(tmp_path / "m.mask.safetensors")
    assert loaded == mask
    assert loaded.hash == mask.hash
    assert about["stage"] == "imp"
    assert float(about["sparsity"]) == mask.sparsity


def test_overlap_is_intersection_over_union():
    first = Mask({"a": torch.tensor([[True, True, False, False]])})
    second = Mask({"a": torch.tensor([[True, False, True, False]])})
    assert first.overlap(second) == pytest.approx(1 / 3)
    assert first.overlap(first) == 1
    with pytest.raises(InputError, match=r"masks name different parameters: \['b'\]"):
        first.overlap(Mask({"a": first["a"], "b": first["a"]}))


def test_a_mask_is_a_copy_of_what_it_was_made_of():
    tensors = {"a": torch.ones(2, 3, dtype=torch.bool)}
    mask = Mask(tensors)
    before = mask.hash
    tensors["a"][0] = False
    assert mask.hash == before
    assert mask.num_kept == 6


def test_ones_like_takes_a_tensor_of_several_names_once_and_no_extra_state():
    tied = nn.ModuleDict({"e": nn.Embedding(5, 4), "h": nn.Linear(4, 5, bias=False)})
    tied["h"].weight = tied["e"].weight
    assert list(Mask.ones_like({**tied.state_dict(), "_extra_state": {"tag": 1}})) == ["e.weight"]
    equal = {"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}
    assert list(Mask.ones_like(equal)) == ["a", "b"]


def test_emptied_layers_are_named():
    mask = Mask({"a": torch.zeros(2, 2, dtype=torch.bool), "b": torch.eye(2).bool(), "c": torch.zeros(0, 2).bool()})
    assert mask.emptied == ["a"]


def no_weights():
    return Mask({"a": torch.zeros(0, 3, dtype=torch.bool)})


@pytest.mark.parametrize("make", [no_weights, lambda: Mask({})])
def test_a_mask_of_no_weights_divides_nothing_by_zero(make, tmp_path):
    mask = make()
    assert mask.sparsity == mask.model_sparsity(0) == 0
    assert [row["sparsity"] for row in mask.report()] == [0.0] * len(mask)
    assert mask.overlap(make()) == 0
    assert random_erk(mask, 0.5) == random_uniform(mask, 0.5) == mask
    mask.save(tmp_path / "m.mask.safetensors")
    assert Mask.load(tmp_path / "m.mask.safetensors") == mask


def test_nothing_can_be_pruned_from_a_mask_of_no_tensors():
    with pytest.raises(InputError, match="the mask names no weight: there is nothing to prune"):
        magnitude_prune({}, Mask({}), 0.5)
    with pytest.raises(InputError, match=r"mask tensor has shape \(0, 3\), expected \(outputs, inputs, \*kernel\)"):
        degree_report(no_weights())


def test_mask_rejects_wrong_names_shapes_and_dtypes():
    model = network()
    with pytest.raises(InputError, match="mask names nothing.weight, which the network does not have"):
        Mask({"nothing.weight": torch.ones(2, 2, dtype=torch.bool)}).apply_(model)
    with pytest.raises(InputError, match=r"mask for 0.weight has shape \(2, 2\), the network has \(8, 4\)"):
        Mask({"0.weight": torch.ones(2, 2, dtype=torch.bool)}).apply_(model)
    with pytest.raises(InputError, match=r"mask for a has dtype torch.float32, expected torch.bool"):
        Mask({"a": torch.ones(2)})
    with pytest.raises(InputError, match="mask names x, which the network does not have"):
        Mask.ones_like(model.state_dict(), ["x"])


def test_load_rejects_missing_truncated_foreign_newer_and_damaged_files(tmp_path):
    path = tmp_path / "m.mask.safetensors"
    with pytest.raises(InputError, match=r"mask file .* does not exist"):
        Mask.load(path)
    mask = random_mask()
    mask.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BrokenFileError, match="is not a readable safetensors file"):
        Mask.load(path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BrokenFileError, match="is damaged: its content does not match the hash"):
        Mask.load(path)
    save_file(dict(mask), path)
    with pytest.raises(BrokenFileError, match="is not a mask file of rebasin-lt"):
        Mask.load(path)
    save_file(dict(mask), path, metadata={"format": "rebasin_lt.mask", "version": "99"})
    with pytest.raises(BrokenFileError, match="has mask format version 99, this release reads 1 and 2"):
        Mask.load(path)
