"""Training steps of any size without their arithmetic: shapes, and how many bytes of tensors are alive at once.

`python sizes.py` trains those of `SMALL` in earnest, and prints how many bytes each took of the process.
"""

from __future__ import annotations

import json
import resource
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.mask import Mask

STEPS = 2
"""After the first, the optimiser has its state."""


class Size(NamedTuple):
    """A training."""

    arch: str
    width: float
    shape: Sequence[int]
    batch: int
    classes: int = 10


SMALL = [Size("mlp", 4, (1, 8, 8), 4096), Size("resnet20", 1, (3, 16, 16), 128)]
"""From the smaller to the larger: a process knows the most that it ever took."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, of tensors made within; `peak` is the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


class Trained(NamedTuple):
    """What a few masked steps came to."""

    logits: torch.Size
    gradients: dict[str, torch.Size]
    parameters: dict[str, torch.Size]


def train(size: Size) -> Trained:
    """A few steps of a classifier under a mask guard, with SGD and momentum; nothing of it is read by the host."""
    module = Classifier(size.arch, size.width, size.classes, list(size.shape))
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, foreach=True)
    trainer: Any = SimpleNamespace(optimizers=[optimizer], callbacks=[])
    guard = MaskGuard(Mask({}))
    guard._weights = [weight for weight in module.parameters() if weight.ndim > 1]
    guard._factors = [torch.ones_like(weight) for weight in guard._weights]
    guard._guard_optimizers(trainer)
    batch = torch.zeros(size.batch, *size.shape), torch.zeros(size.batch, dtype=torch.int64)
    try:
        for _ in range(STEPS):
            loss = module.training_step(batch, 0)
            optimizer.zero_grad()
            loss.backward()
            guard.on_before_optimizer_step(trainer, module, optimizer)
            optimizer.step()
    finally:
        guard._release()
    with torch.no_grad():
        logits = module.eval()(batch[0][:1]).shape
    parameters = dict(module.named_parameters())
    gradients = {name: weight.grad.shape for name, weight in parameters.items() if weight.grad is not None}
    return Trained(logits, gradients, {name: weight.shape for name, weight in parameters.items()})


def bytes_of(size: Size) -> tuple[int, Trained]:
    """The most bytes of tensors that are alive at once in training of a size, none of which is allocated."""
    with FakeTensorMode(), LiveBytes() as live:
        found = train(size)
    return live.peak, found


def taken() -> list[int]:
    """By `resource`, the most bytes that the process took in each of `SMALL`, less what it had before."""
    torch.set_num_threads(1)
    for size in SMALL:
        train(size._replace(width=0.25, batch=2))  # code and tables of the kernels are no tensors
    found = []
    for size in SMALL:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        train(size)
        found.append(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - pages * resource.getpagesize())
    return found


if __name__ == "__main__":
    print(json.dumps(taken()))
