"""What a module's own validation step logs, without a Trainer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rebasin_lt.batches import device_of, state_of
from rebasin_lt.errors import InputError
from rebasin_lt.feeding.calls import Calls, Fed
from rebasin_lt.feeding.failure import failing
from rebasin_lt.feeding.forward_call import ForwardCall, input_tensors
from rebasin_lt.feeding.handed import Handed, handed
from rebasin_lt.judging.losses import STEP, judged_by
from rebasin_lt.judging.measures import Sums
from rebasin_lt.precision import sum_dtype


class Step(NamedTuple):
    """A batch as its loader gives it, and its place."""

    batch: Any
    place: int

    def to(self, device: torch.device) -> Step:
        """The same: the module itself moves it, by its hooks."""
        return self


class Steps:
    """The batches with their places, as often as they can be read."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches) if isinstance(self.batches, Sized) else 0

    def __iter__(self) -> Iterator[Step]:
        for index, batch in enumerate(self.batches):
            yield batch if isinstance(batch, Step) else Step(batch, index)


class ByStep:
    """By what `validation_step` logs under a name: its mean over batches, each counting by its size, as Lightning's.

    The module's own batches are given to it, whatever `Fed` says of them, after its hooks for their transfer. `log` and
    `log_dict` are replaced for the call; the size of a batch is what is logged with it, or the length of its first
    tensor. So it is the number that `Trainer.validate` reports, where the step itself logs it as a number.
    """

    calibrates = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.judged = judged_by(f"{STEP}:{name}")

    def read(self, batches: Iterable[Any], network: nn.Module, argument: str = "batches") -> Steps:
        """The batches as they come. Raises InputError for a module without a step, and for calls of it."""
        if not callable(getattr(network, STEP, None)):
            raise InputError(
                f"loss is {self.judged.loss}, but {type(network).__name__} has no {STEP}: give a LightningModule that "
                "has, or the name of a loss"
            )
        while isinstance(batches, Fed | Calls | Handed):
            batches = batches.batches
        return batches if isinstance(batches, Steps) else Steps(batches)

    def sums(self, network: nn.Module, step: Step, factor: float = 1.0) -> Sums:
        """The value times the size of the batch, and that size. Raises InputError where it is not logged."""
        if isinstance(step.batch, ForwardCall):
            raise InputError(f"loss is {self.judged.loss}, which takes batches as loaders give them, not calls")
        batch = handed(network, step.batch)
        value, size = self._logged(network, batch, step.place)
        if size is None:
            size = next((len(tensor) for tensor in input_tensors(batch) if tensor.dim()), 1)
        device = device_of(state_of(network))
        return Sums(torch.as_tensor(value, device=device).detach().to(sum_dtype(device)) * size, None, size)

    def check(self, network: nn.Module, step: Step, argument: str = "batches") -> None:
        """Raise InputError as `sums` does."""
        self.sums(network, step)

    def _logged(self, network: nn.Module, batch: Any, index: int) -> tuple[Any, int | None]:
        found: dict[str, tuple[Any, int | None]] = {}

        def log(name: str, value: Any, *_: Any, batch_size: int | None = None, **__: Any) -> None:
            found[name] = value, batch_size

        def log_dict(values: Mapping[str, Any], *_: Any, batch_size: int | None = None, **__: Any) -> None:
            found.update({name: (value, batch_size) for name, value in values.items()})

        _run_step(network, batch, index, {"log": log, "log_dict": log_dict})
        if self.name not in found:
            names = ", ".join(found) or "nothing"
            raise InputError(f"loss is {self.judged.loss}, but the {STEP} of {type(network).__name__} logs {names}")
        value, size = found[self.name]
        if not (isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)):
            raise InputError(
                f"loss is {self.judged.loss}, which is logged as a {type(value).__name__}: expected a number or a "
                "tensor of one, such as the mean loss of the batch"
            )
        return value.reshape(()) if isinstance(value, Tensor) else value, size


def _run_step(network: nn.Module, batch: Any, index: int, replaced: Mapping[str, Any]) -> None:
    own = {name: vars(network)[name] for name in replaced if name in vars(network)}
    vars(network).update(replaced)
    try:
        with failing(lambda: f"the {STEP} of {type(network).__name__} fails without a Trainer"):
            step = getattr(network, STEP)
            step(*(batch, index)[: _num_taken(step)])
    finally:
        for name in replaced:
            del vars(network)[name]
        vars(network).update(own)


def _num_taken(step: Callable[..., Any]) -> int:
    """1 for a step of the batch alone, as Lightning allows, else 2: the batch and its place."""
    parameters = inspect.signature(step).parameters.values()
    single = [each for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
    return 1 if len(single) == 1 and not any(each.kind is each.VAR_POSITIONAL for each in parameters) else 2
