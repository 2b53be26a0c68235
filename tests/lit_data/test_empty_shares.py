"""Fewer images than ranks: an empty share is a share, on which nothing raises and for which nobody waits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data.epoch_batches import EpochBatches
from rebasin_lt.lit.data.image_folder import ImageFolder

NETWORKS = ["mlp", "conv2", "resnet20", "vgg11", "vgg11_bn", "torchvision:squeezenet1_1", f"{__name__}:own"]


class Own(nn.Sequential):
    """As many people write it: -1 stands for a size that no image tells."""

    def forward(self, images):
        return super().forward(images.view(images.size(0), -1))


def own(num_classes: int) -> nn.Module:
    return Own(nn.Linear(3 * 32 * 32, num_classes))


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize(("resident", "workers"), [(True, 0), (False, 0), (False, 2)])
def test_every_loader_gives_every_rank_as_many_batches(folders, resident, workers, augment):
    """6 images, by 1 and by 2 on 8 ranks, and more to a rank: all seen once, by ranks in step."""
    data = ImageFolder(str(folders({"train": 2, "test": 1})), num_workers=workers, resident=resident, image_size=12)
    images, indices = data._images("train")
    for batch_size, world in ((1, 8), (2, 8), (1, 4), (4, 3)):
        labels, lengths = [], []
        for rank in range(world):
            sampler = EpochBatches(indices, batch_size, rank=rank, world_size=world)
            batches = list(images.loader(sampler, augment, torch.device("cpu")))
            assert all(pixels.shape[1:] == (3, 12, 12) for pixels, _ in batches)
            assert all(pixels.dtype == torch.float32 and numbers.dtype == torch.int64 for pixels, numbers in batches)
            labels += [label for _, numbers in batches for label in numbers.tolist()]
            lengths.append(len(batches))
        assert sorted(labels) == [0, 0, 1, 1, 2, 2]
        assert len(set(lengths)) == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_an_empty_batch(name):
    size = (1, 8, 8) if name == "mlp" else (3, 32, 32)
    module = Classifier(arch=name, width=1 if ":" in name else 0.25, num_classes=10, input_shape=list(size)).eval()
    empty = torch.empty(0, *size), torch.empty(0, dtype=torch.int64)
    module._evaluate(empty)
    assert module.predict_step(empty, 0).shape == (0, 10)
    assert module._eval_sums.totals(torch.device("cpu")).tolist() == [0, 0, 0, 0]
    with torch.no_grad():
        whole = torch.randn(2, *size)
        assert torch.equal(module(whole), module.net(whole))
