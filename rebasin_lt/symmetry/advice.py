"""What to do about a network that PyTorch cannot export, by what its error says."""

from __future__ import annotations

import inspect
import linecache
import os
import traceback
from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import nn

_TORCH, _HERE = os.path.dirname(torch.__file__), os.path.dirname(os.path.abspath(__file__))


class Failure(NamedTuple):
    """An error of an export: of which network, with which of forward's arguments given."""

    model: nn.Module
    given: Collection[str]
    error: Exception

    def says(self, *texts: str) -> bool:
        """True if any of the texts is in the error's."""
        return any(text in str(self.error) for text in texts)


class Advice(NamedTuple):
    """What to do where something is the case."""

    holds: Callable[[Failure], bool]
    text: str


def _depends_on_data(failure: Failure) -> bool:
    return failure.says("data-dependent", "is not supported for tensor subclasses", "Boolean value of Tensor")


def _has_eager_experts(failure: Failure) -> bool:
    config = getattr(failure.model, "config", None)
    return _depends_on_data(failure) and getattr(config, "_experts_implementation", None) == "eager"


def _names_an_argument(failure: Failure) -> bool:
    """True if it names an argument of forward that was not given, as those do that want another one."""
    names = inspect.signature(failure.model.forward).parameters
    return failure.says(*(name for name in names if name not in failure.given and len(name) > 3))


ADVICE = (
    Advice(_has_eager_experts, "have all experts computed alike: model.set_experts_implementation('batched_mm')"),
    Advice(
        _depends_on_data,
        "trace a submodule without control flow that depends on data, such as trace_symmetry(model.backbone, inputs)",
    ),
    Advice(
        lambda failure: failure.says("Unsupported input type", "pytree"),
        "give tensors only, and leave caches out (use_cache=False)",
    ),
    Advice(
        lambda failure: isinstance(failure.error, ValueError | TypeError) and _names_an_argument(failure),
        "give every input that it needs by name, such as trace_symmetry(model, {'input_ids': ids, ...})",
    ),
    Advice(
        lambda failure: failure.says("size", "shape", "dimension", " dim", "channels"),
        "give an example of a shape that it takes, the batch first",
    ),
    Advice(lambda failure: True, "make sure that it runs in evaluation mode on the example"),
)
"""The first that holds is given."""


def explain(failure: Failure) -> str:
    """One line: what cannot be traced, where, why, and what to do."""
    error = failure.error
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not os.path.abspath(frame.filename).startswith((_TORCH, _HERE)) and "<" not in frame.filename
    ]
    where = ""
    if frames:
        line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()
        where = f" at {frames[-1].filename}:{frames[-1].lineno} ({line})"
    advice = next(advice.text for advice in ADVICE if advice.holds(failure))
    return f"{type(failure.model).__name__} cannot be traced{where}: {first_line(error)}; {advice}"


def first_line(error: Exception) -> str:
    """The first line of an error's text that says something; its type's name if there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
