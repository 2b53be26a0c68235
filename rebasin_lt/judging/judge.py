"""Whoever judges a network's answers to a batch, and how it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from rebasin_lt.errors import InputError
from rebasin_lt.feeding.answer import answer_of
from rebasin_lt.feeding.calls import calls_of
from rebasin_lt.feeding.failure import failing
from rebasin_lt.feeding.forward_call import ForwardCall, described
from rebasin_lt.judging.losses import CROSS_ENTROPY, LOSSES, STEP, Judged, check_loss_name, judged_by
from rebasin_lt.judging.measures import LossMeasure, Sums, Unfit
from rebasin_lt.judging.validation_step import ByStep
from rebasin_lt.precision import sum_dtype
from rebasin_lt.settings.choices import imported
from rebasin_lt.settings.user_code import import_named


@runtime_checkable
class Judge(Protocol):
    """A way to judge a network's answers to batches: how they are read, and what the answer to each comes to."""

    @property
    def judged(self) -> Judged:
        """What the numbers are."""

    @property
    def calibrates(self) -> bool:
        """True where answers are logits that a temperature may divide."""

    def read(self, batches: Iterable[Any], network: nn.Module, argument: str) -> Any:
        """The batches, of the same length, as `sums` takes them; what is read already stays as it is."""

    def sums(self, network: nn.Module, batch: Any, factor: float = 1.0) -> Sums:
        """The sums over one batch, on the network's device, of answers times a factor. Raises InputError as `check`."""

    def check(self, network: nn.Module, batch: Any, argument: str) -> None:
        """Raise InputError, in one line, unless the network can be judged on such a batch."""


Chosen = str | Callable[[Any, Any], Tensor] | Judge
"""A loss as callers may give it: a name of `LOSSES`; a function of output and label; `package.module:name`, which names
one; `validation_step:NAME`; or a judge."""


def judge_of(loss: Chosen = CROSS_ENTROPY, argument: str = "loss") -> Judge:
    """The judge by a loss. Raises InputError for a name that is none.

    >>> judge_of("mse").judged.mean_over
    'values'
    """
    if isinstance(loss, Judge):
        return loss
    if not isinstance(loss, str):
        return ByFunction(loss, getattr(loss, "__name__", type(loss).__name__))
    check_loss_name(loss, argument)
    if loss in LOSSES:
        return ByLoss(loss)
    kind, _, name = loss.partition(":")
    if kind == STEP:
        return ByStep(name)
    function = import_named(argument, loss)
    if not callable(function):
        raise InputError(
            f"{argument} is {loss!r}, a {type(function).__name__}, expected a function loss(output, target)"
        )
    return ByFunction(function, loss)


class ByCalls:
    """The part of a judge that reads batches as calls of the network."""

    calibrates = False

    def read(self, batches: Iterable[Any], network: nn.Module, argument: str = "batches") -> Iterable[ForwardCall]:
        """The calls. Raises InputError as `calls_of`."""
        return calls_of(batches, network, argument)


class ByLoss(ByCalls):
    """By a loss of the table."""

    def __init__(self, name: str) -> None:
        record = LOSSES[name]
        self.name, self.judged, self.calibrates = name, judged_by(name), record.calibrates
        self.measure: LossMeasure = imported(record.measure)

    def rows(self, network: nn.Module, call: ForwardCall, argument: str = "batches") -> tuple[Tensor, Tensor]:
        """Answers and labels as the loss takes them. Raises InputError for those that it is not of."""
        answer, target = answer_of(call.of(network)), call.label
        try:
            return self.measure.rows(answer, target)
        except Unfit as error:
            raise self._refusal(answer, target, argument, error) from error

    def sums(self, network: nn.Module, call: ForwardCall, factor: float = 1.0) -> Sums:
        """The sums over one batch. Raises InputError as `rows`."""
        return self.measure.sums(*self.rows(network, call), factor)

    def check(self, network: nn.Module, call: ForwardCall, argument: str = "batches") -> None:
        """Raise InputError for answers and labels that the loss is not of, values included."""
        answer, target = answer_of(call.of(network)), call.label
        try:
            self.measure.check(*self.measure.rows(answer, target))
        except Unfit as error:
            raise self._refusal(answer, target, argument, error) from error

    def classes(self, network: nn.Module, call: ForwardCall, argument: str = "batches") -> tuple[Tensor, Tensor]:
        """Logits (M, classes) and labels (M,), of all that counts. Raises InputError where the loss has no classes."""
        rows = self.rows(network, call, argument)
        assert self.measure.classes is not None, "asked of losses of classes alone"
        try:
            return self.measure.classes(*rows)
        except Unfit as error:
            raise InputError(f"{argument}: loss is {self.name}, but {error}") from error

    def _refusal(self, answer: Tensor, target: Tensor, argument: str, error: Unfit) -> InputError:
        fitting = [name for name, each in LOSSES.items() if imported(each.measure).fits(answer, target)]
        others = f"losses that fit are {', '.join(fitting)}" if fitting else self._nearly(answer, target)
        return InputError(
            f"{argument}: loss is {self.name}, the network answers {described(answer)} and the label is "
            f"{described(target)}: {error}; {others}, and a function of your own may"
        )

    def _nearly(self, answer: Tensor, target: Tensor) -> str:
        """No loss fits, or a loss of the same shapes does not for the values of the labels."""
        for name in (name for name in LOSSES if name != self.name):
            measure: LossMeasure = imported(LOSSES[name].measure)
            if measure.takes(answer, target):
                try:
                    measure.check(*measure.rows(answer, target))
                except Unfit as error:
                    return f"{name} is of such shapes, but {error}"
        return "no loss by name fits"


class ByFunction(ByCalls):
    """By a function of the user's, of what the network answers and the label.

    It returns a tensor of losses, whose mean over all batches is taken over its entries, or the mean of a batch, a
    tensor without dimensions, which counts as often as the batch has samples.
    """

    def __init__(self, function: Callable[[Any, Any], Any], name: str) -> None:
        self.function, self.name = function, name
        self.judged = judged_by(name)

    def sums(self, network: nn.Module, call: ForwardCall, factor: float = 1.0) -> Sums:
        """The sums over one batch. Raises InputError where the function fails, or returns no floating tensor."""
        output = call.of(network)
        given = f"an output that is {described(output)} and a label that is {described(call.target)}"
        with failing(lambda: f"loss {self.name} fails on {given}"):
            losses = self.function(output, call.target)
        if not isinstance(losses, Tensor) or not losses.is_floating_point():
            raise InputError(
                f"loss {self.name} returned {described(losses)}, expected a floating tensor: losses, or their mean"
            )
        losses = losses.to(sum_dtype(losses.device))
        if losses.dim():
            return Sums(losses.sum(), None, losses.numel())
        return Sums(losses * call.num_samples, None, call.num_samples)

    def check(self, network: nn.Module, call: ForwardCall, argument: str = "batches") -> None:
        """Raise InputError as `sums` does."""
        self.sums(network, call)
