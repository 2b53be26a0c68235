"""Passes over the data that many networks share, and how far they have come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, TypeVar

from torch import nn

from rebasin_lt.batches import device_of, nonempty, state_of
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.precision import full_precision

MEMORY = 2**30
"""Bytes of weights in one pass: as many points as fit share their passes over the data. States and the networks that
hold copies of them exist side by side, so the peak is a small multiple of this."""

T = TypeVar("T")


def chunks(points: Sequence[T], network: nn.Module) -> list[Sequence[T]]:
    """The points in groups whose networks fit in `MEMORY` together, at least one in each."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in state_of(network).values())
    step = max(1, MEMORY // max(1, size))
    return [points[start : start + step] for start in range(0, len(points), step)]


def run_all(networks: Sequence[nn.Module], batches: Iterable[Any]) -> None:
    """Run the networks, which lie on one device, on all batches in one pass, in the precision of their weights
    (`full_precision`). Raises InputError if there is no batch."""
    device = device_of(state_of(networks[0]))
    for call in nonempty(calls_of(batches, networks[0])):
        call = call.to(device)
        with full_precision(device):
            for network in networks:
                call.of(network)


class BatchCounter:
    """Tells how many batches have been read of all that will be: `total`, set as soon as it is known."""

    def __init__(self, tell: Callable[[int, int], None] | None) -> None:
        self.tell, self.done, self.total = tell, 0, 0

    def counted(self, batches: Iterable[Any]) -> CountedBatches:
        return CountedBatches(batches, self)

    def tick(self) -> None:
        if self.tell is not None and self.total:
            self.done += 1
            self.tell(self.done, self.total)


class CountedBatches:
    """The same batches, counted whenever one has been worked on; of no length if theirs is unknown."""

    def __init__(self, batches: Iterable[Any], counter: BatchCounter) -> None:
        self.batches, self.counter = batches, counter

    def __len__(self) -> int:
        return len(self.batches) if isinstance(self.batches, Sized) else 0

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield batch
            self.counter.tick()
