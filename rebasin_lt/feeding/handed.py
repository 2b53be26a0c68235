"""Batches as a Trainer hands them to a module: after the module's own hooks for their transfer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

from torch import nn

from rebasin_lt.batches import device_of, state_of
from rebasin_lt.feeding.failure import failing
from rebasin_lt.feeding.forward_call import mapped

HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class Handed:
    """The batches after the hooks of a module, as often as they can be read."""

    def __init__(self, batches: Iterable[Any], module: nn.Module) -> None:
        self.batches, self.module = batches, module

    def __len__(self) -> int:
        return len(self.batches) if isinstance(self.batches, Sized) else 0

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield handed(self.module, batch)


def handed(module: nn.Module, batch: Any) -> Any:
    """One batch on the module's device, by its hooks where it has any; they are told that no training is going on.

    Raises InputError where one fails.
    """
    device = device_of(state_of(module))
    before, move, after = (getattr(module, name, None) for name in HOOKS)
    where = f"{type(module).__name__} fails in its hooks for a batch's transfer, called without a Trainer"
    with evaluating(module), failing(lambda: where):
        batch = batch if before is None else before(batch, 0)
        batch = mapped(batch, lambda tensor: tensor.to(device)) if move is None else move(batch, device, 0)
        return batch if after is None else after(batch, 0)


class _NoTrainer:
    """What hooks ask a Trainer for, to augment in training alone."""

    training = validating = predicting = sanity_checking = False
    testing = evaluating = True


@contextmanager
def evaluating(module: Any) -> Iterator[None]:
    """Within it, a module or data module of Lightning's without a Trainer has one that says it is testing."""
    own = vars(module)
    alone = [name for name in ("_trainer", "trainer") if name in own and own[name] is None]
    own.update(dict.fromkeys(alone, _NoTrainer()))
    try:
        yield
    finally:
        own.update(dict.fromkeys(alone))
