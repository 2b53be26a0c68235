import torch

from rebasin_lt.pruning.baselines import shuffle_layerwise
from rebasin_lt.pruning.mask import Mask


def test_shuffle_keeps_each_layers_count_and_moves_its_entries():
    mask = Mask({"a": torch.rand(20, 30) < 0.1, "b": torch.rand(8, 4, 3, 3) < 0.6})
    shuffled = shuffle_layerwise(mask, torch.Generator().manual_seed(0))
    assert {n: int(t.sum()) for n, t in mask.items()} == {n: int(t.sum()) for n, t in shuffled.items()}
    assert shuffled != mask
    assert shuffled == shuffle_layerwise(mask, torch.Generator().manual_seed(0))
    assert shuffled != shuffle_layerwise(mask, torch.Generator().manual_seed(1))


def test_shuffle_overlap_is_that_of_chance():
    mask = Mask({"a": torch.rand(200, 300) < 0.2})
    expected = 0.2 / (2 - 0.2)  # two independent masks of density d: d² / (2d − d²)
    assert abs(mask.overlap(shuffle_layerwise(mask)) - expected) < 0.01
