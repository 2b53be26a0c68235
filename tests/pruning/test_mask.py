import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.pruning.mask import Mask, prunable_names


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


def test_prunable_names_take_conv_and_linear_and_leave_norms_shortcuts_and_ties():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.shortcut = nn.Sequential(nn.Conv2d(3, 4, 1))
            self.embed = nn.Embedding(5, 4)
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

    assert prunable_names(Net()) == ["conv.weight", "first.weight"]
    assert prunable_names(Net(), exclude=()) == ["conv.weight", "shortcut.0.weight", "first.weight"]
    with pytest.raises(InputError, match=r"no prunable weight in Net: .* exclude=\['\*'\] leaves none"):
        prunable_names(Net(), exclude=("*",))


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
    with pytest.raises(BrokenFileError, match="has mask format version 99, this release reads 1"):
        Mask.load(path)
