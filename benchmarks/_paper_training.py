"""The paper's loop of sparse training, plainly written from its description (arXiv 2505.05143, section 4 and code)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from rebasin_lt.pruning.mask import Mask


def prune_(network: nn.Module, mask: Mask) -> None:
    """Give every masked module torch's hook: its weight is `weight_orig` times `weight_mask` in each forward."""
    for name, kept in mask.items():
        place, _, parameter = name.rpartition(".")
        module = network.get_submodule(place)
        prune.custom_from_mask(module, parameter, kept.to(next(module.parameters()).device))


def train_as_published(
    network: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    epochs: int,
    learning_rate: float = 0.02,
    device: str = "cpu",
    on_step: Callable[[], Any] = lambda: None,
) -> list[float]:
    """SGD under a cosine by epoch; the loss is read in every step, and so are the gradients; returns mean losses.

    `on_step` is called before each step.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    losses = []
    network.train()
    for _ in range(epochs):
        total, seen = 0.0, 0
        for images, labels in loader:
            on_step()
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = cross_entropy(network(images), labels)
            loss.backward()
            check_sparse_gradients(network)
            optimizer.step()
            total += loss.item() * len(labels)
            seen += len(labels)
        schedule.step()
        losses.append(total / seen)
    return losses


def check_sparse_gradients(network: nn.Module, tolerance: int = 1) -> None:
    """The published check that pruned weights have no gradient: it looks for the mask where it never is.

    It reads a number from the device for every parameter. Masks belong to modules, not to parameters, so that it
    compares nothing, there as here.
    """
    for parameter in network.parameters():
        if parameter.grad is None:
            continue
        alive = int(torch.count_nonzero(parameter.grad).item())
        if hasattr(parameter, "weight_mask") and alive > int(parameter.weight_mask.sum()) + tolerance:
            raise AssertionError("a pruned weight has a gradient")


@torch.no_grad()
def accuracy(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of images that the network in evaluation mode classifies correctly, in percent."""
    network.eval()
    found = [(network(images).argmax(1) == labels).double() for images, labels in batches]
    return 100 * float(torch.cat(found).mean())
