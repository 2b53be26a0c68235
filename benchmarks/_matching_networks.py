"""Trained ResNet20s to match: kept as files, trained at a small budget where there are none."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rebasin_lt.lit.data import ImageData, ImageFolder
from rebasin_lt.models.registry import build_network
from rebasin_lt.process.progress_line import ProgressLine

EPOCHS = {1: 16, 4: 2}  # by width
TRAIN_SIZE = 5000


def open_folder(root: Path) -> ImageData:
    """5,000 training images, chosen once, and all test images; decoded once, or read from a file beside the folder."""
    return ImageFolder(str(root), train_size=TRAIN_SIZE, image_size=32, resident=True)


def trained(width: int, seeds: tuple[int, int], data: ImageData, folder: Path) -> list[nn.Module]:
    """Two networks in evaluation mode, from `resnet20xWIDTH-SEED.safetensors` or trained and written there."""
    networks = []
    for seed in seeds:
        path = folder / f"resnet20x{width}-{seed}.safetensors"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            save_file(train(width, seed, data).state_dict(), path)
        networks.append(load(path, width))
    return networks


def load(path: Path, width: int) -> nn.Module:
    """A ResNet20 with the weights of a file, in evaluation mode."""
    network = build_network("resnet20", width=width)
    network.load_state_dict(load_file(path))
    return network.eval()


def train(width: int, seed: int, data: ImageData) -> nn.Module:
    """SGD under one cycle of the learning rate, in bfloat16 where that is safe."""
    torch.manual_seed(seed)
    network = build_network("resnet20", width=width).to(memory_format=torch.channels_last)
    data.seed = seed
    loader, epochs = data.train_dataloader(), EPOCHS[width]
    steps = epochs * len(loader)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.2, total_steps=steps, pct_start=0.3)
    with ProgressLine("matching") as progress:
        for epoch in range(epochs):
            progress(f"epochs of width {width}, seed {seed}", epoch, epochs)
            for images, labels in loader:
                with torch.autocast("cpu", torch.bfloat16):
                    loss = nn.functional.cross_entropy(
                        network(images.to(memory_format=torch.channels_last)), labels, label_smoothing=0.1
                    )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return network.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def accuracy(network: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """Fraction of images that the network classifies correctly."""
    right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in batches)
    return right / sum(len(labels) for _, labels in batches)
