"""Several masked runs of one shape in one process: their parameters stacked, one call of torch.func for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from rebasin_lt.pruning.mask import Mask


class Stacked:
    """Networks of one architecture that take every step together, each under its mask and on a batch of its own.

    SGD as `Classifier` has it. Convolutions become grouped ones. Each run ends, up to rounding, where it would alone.
    """

    def __init__(self, networks: Sequence[nn.Module], masks: Sequence[Mask], learning_rate: float) -> None:
        self.network = networks[0]
        self.parameters, self.buffers = stack_module_state(list(networks))  # shape: (runs, *a network's)
        self.weights = [self.parameters[name] for name in masks[0]]
        self.factors = [
            torch.empty_like(weight).copy_(torch.stack([mask[name] for mask in masks]))
            for name, weight in zip(masks[0], self.weights, strict=True)
        ]
        values = list(self.parameters.values())
        self.optimizer = torch.optim.SGD(values, learning_rate, momentum=0.9, weight_decay=5e-4, foreach=True)
        self._mask(self.weights)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Images of shape (runs, batch, C, H, W), labels of shape (runs, batch)."""
        logits = vmap(self._logits)(self.parameters, self.buffers, images)
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.shape[1]
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._mask([weight.grad for weight in self.weights if weight.grad is not None])
        self.optimizer.step()
        self._mask(self.weights)

    def _logits(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.network, (parameters, buffers), (images,))
        return logits

    @torch.no_grad()
    def _mask(self, tensors: list[Tensor]) -> None:
        torch._foreach_mul_(tensors, self.factors)
