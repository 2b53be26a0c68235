"""The processes that train together: one decides and writes, all agree. Alone, a process is the first and the only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rebasin_lt.errors import RebasinError

if TYPE_CHECKING:  # whoever only starts such processes need not wait for torch
    import torch
    from torch import nn

Value = TypeVar("Value")


class FirstRankFailed(RebasinError):
    """The first of several processes failed at what it had to do for all of them."""


class OtherRankFailed(RebasinError):
    """Another of several processes failed at its share of what they do together."""


def rank() -> int:
    """This process's number among those that have met, from 0."""
    import torch.distributed as dist

    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def agreed(value: Value) -> Value:
    """The first rank's value, on every rank. All must call it, and wait for each other."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def decided(decide: Callable[[], Value]) -> Value:
    """The value that the first rank comes to by `decide`, on every rank; nobody else calls it.

    Where it raises there, FirstRankFailed is raised on all others, so that none waits in vain.
    """
    outcome: tuple[Value | None, str | None] = None, None
    if rank() == 0:
        try:
            outcome = decide(), None
        except BaseException as error:
            agreed((None, f"{type(error).__name__}: {error}"))
            raise
    value, failure = agreed(outcome)
    if failure is not None:
        raise FirstRankFailed(f"the first process could not do it for all: {failure}")
    return value  # type: ignore[return-value]


@contextmanager
def failing_together() -> Iterator[None]:
    """Within, every rank does its share of something; where any of them fails, all do, and none waits in vain.

    All must come here. A rank whose own share is fine raises OtherRankFailed, with the reason of the first that failed.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        yield
        return
    failure: str | None = None
    try:
        yield
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
        raise
    finally:
        reasons: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(reasons, failure)
        failed = [number for number, reason in enumerate(reasons) if reason is not None]
        if failed and failure is None:
            raise OtherRankFailed(f"process {failed[0]} could not do its share: {reasons[failed[0]]}")


def broadcast_buffers_(module: nn.Module, device: torch.device) -> None:
    """Give every rank the first one's buffers, such as the statistics of batch norm, which each has of its own images.

    `device` is where the processes talk to each other; the buffers may lie elsewhere, and stay there.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return
    for buffer in module.buffers():
        first = buffer.detach().to(device, copy=True)
        dist.broadcast(first, src=0)
        buffer.copy_(first)
