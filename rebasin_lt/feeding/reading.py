"""A batch, of any of the forms that loaders give, read as one call of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.feeding.form import Form
from rebasin_lt.feeding.forward_call import ForwardCall, described

Inputs = str | Sequence[str] | Mapping[str, str] | Callable[[Any], Any]
"""The inputs of a batch: names, by commas or in a list; the name in the batch by that of `forward`; or a function."""
Targets = str | Callable[[Any], Any]
"""The label of a batch: a name, or a function of the batch."""

LABELS = ("labels", "label", "targets", "target", "y")
"""Entries of a dict that are labels, unless the network asks for them."""

_WAY_OUT = "say which parts are inputs: inputs=NAMES (--inputs), or a function of the batch"


def read_call(batch: Any, form: Form, inputs: Inputs | None = None, targets: Targets | None = None) -> ForwardCall:
    """The call that a batch stands for.

    What `targets` names is an input too only where `forward` requires it. Of a tuple of which a function takes the
    inputs, the one part that is left is the label; where several are, `targets` has to say which.

    A tensor is the input. Of a dict, the entries that `forward` names are inputs and one of `LABELS` is the label. Of a
    tuple, the first entry is the input, or holds the inputs, and the second is the label, wherever the network can be
    called so; else all are inputs, or all but the last. Raises InputError for a batch that fits no reading, or several.

    >>> import inspect, torch
    >>> ids, mask, label = torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([0, 1])
    >>> form = Form("Net", inspect.signature(lambda ids, mask: None))
    >>> batches = {"mask": mask, "ids": ids, "label": label}, ((ids, mask), label), (ids, mask, label), (ids, mask)
    >>> [len(read_call(batch, form).args) for batch in batches]
    [2, 2, 2, 2]
    """
    if isinstance(inputs, str):
        inputs = tuple(name.strip() for name in inputs.split(","))
    if callable(inputs):
        args, kwargs = form.arguments(inputs(batch))
        call = ForwardCall(args, kwargs, _target_beside(batch, (*args, *kwargs.values())))
    elif inputs:
        call = _by_given_names(batch, form, inputs if isinstance(inputs, Mapping) else {name: name for name in inputs})
    else:
        call = _by_form(batch, form, targets if isinstance(targets, str) else None)
    if targets is not None:
        call = ForwardCall(call.args, call.kwargs, _given_target(batch, targets))
    bound = form.bind(call.args, call.kwargs)
    return ForwardCall(bound.args, bound.kwargs, call.target)


def _by_form(batch: Any, form: Form, label: str | None = None) -> ForwardCall:
    if isinstance(batch, Tensor):
        return ForwardCall((batch,))
    if isinstance(batch, Mapping):
        return _of_dict(batch, form, label)
    if isinstance(batch, tuple | list) and batch:
        return _of_sequence(batch, form, label)
    raise InputError(
        f"batches holds a {type(batch).__name__}, expected input tensors, (input, target) pairs or a dict; {_WAY_OUT}"
    )


def _of_dict(batch: Mapping[str, Any], form: Form, said: str | None = None) -> ForwardCall:
    """`said` is the name of the label, if it is not a usual one."""
    label = next((name for name in LABELS if name in batch), None)
    target = None if label is None else batch[label]
    named = {name: batch[name] for name in form.names if name in batch and _is_input(name, form, said)}
    missing = [name for name in form.required if name not in named]
    beside = [name for name in form.beside_example if name in batch and name not in (*LABELS, said)]
    if named and beside:
        raise InputError(
            f"batches holds a dict of {', '.join(map(str, batch))}, but {form.network} {form.described}, without "
            f"{', '.join(beside)}: give it the whole example, or {_WAY_OUT}"
        )
    if named and not missing:
        return ForwardCall((), named, target)
    if form.takes_dict:
        return ForwardCall((dict(batch),), {}, target)
    others = {name: value for name, value in batch.items() if name not in LABELS}
    others = {name: value for name, value in others.items() if name != said} or others
    if not named and form.takes(1):  # its one argument has another name, or takes the dict itself
        return ForwardCall((next(iter(others.values())),) if len(others) == 1 else (dict(batch),), {}, target)
    if not named and not form.required and form.names_all(others):
        return ForwardCall((), others, target)
    raise InputError(
        f"batches holds a dict of {', '.join(map(str, batch))}, but {form.network} {form.described}: "
        f"{', '.join(missing)} is missing; {_WAY_OUT}"
    )


def _is_input(name: str, form: Form, said: str | None) -> bool:
    return name not in (*LABELS, said) or name in form.required


def _of_sequence(batch: Sequence[Any], form: Form, label: str | None = None) -> ForwardCall:
    first, target = batch[0], batch[1] if len(batch) > 1 else None
    if isinstance(first, Mapping):
        call = _of_dict(first, form, label)
        return ForwardCall(call.args, call.kwargs, call.target if target is None else target)
    if isinstance(first, tuple | list):
        if form.takes(len(first)) or form.takes(1):
            return ForwardCall(tuple(first) if form.takes(len(first)) else (first,), {}, target)
        raise InputError(_unread(batch, form, f"whose first part gives {len(first)}"))
    readings = [ForwardCall((first,), {}, target)] if form.takes(1) else []
    if len(batch) > 1 and form.takes(len(batch)):
        readings.append(ForwardCall(tuple(batch)))
    if len(batch) > 2 and form.takes(len(batch) - 1):
        readings.append(ForwardCall(tuple(batch[:-1]), {}, batch[-1]))
    if len(readings) == 1 or (readings and len(batch) == 2):  # a pair is (input, target) wherever that can be
        return readings[0]
    counts = " or ".join(str(len(call.args)) for call in readings)
    raise InputError(_unread(batch, form, f"which can be read as {counts}" if counts else "which fit no call"))


def _unread(batch: Sequence[Any], form: Form, why: str) -> str:
    parts = ", ".join(described(part) for part in batch)
    return f"batches holds {len(batch)} parts, {parts}, {why}, but {form.network} {form.described}: {_WAY_OUT}"


def _by_given_names(batch: Any, form: Form, names: Mapping[str, str]) -> ForwardCall:
    """Entries of a dict by name; of a tuple, the first ones, in order."""
    target = _usual_target(batch)
    if isinstance(batch, tuple | list) and batch and isinstance(batch[0], Mapping):
        batch = batch[0]
    if isinstance(batch, Mapping):
        missing = [key for key in names.values() if key not in batch]
        if missing:
            raise InputError(f"inputs names {missing[0]}, but a batch has {', '.join(map(str, batch))}")
        values = [batch[key] for key in names.values()]
    else:
        parts = batch[0] if isinstance(batch, tuple | list) and isinstance(batch[0], tuple | list) else batch
        parts = (parts,) if isinstance(parts, Tensor) else parts
        if not isinstance(parts, tuple | list) or len(parts) < len(names):
            count = len(parts) if isinstance(parts, tuple | list) else 0
            raise InputError(f"inputs names {len(names)} ({', '.join(names)}), but a batch has {count} parts")
        values = list(parts[: len(names)])
        if parts is batch:
            target = parts[len(names)] if len(parts) > len(names) else None
    if form.names_all(names):
        return ForwardCall((), dict(zip(names, values, strict=True)), target)
    return ForwardCall(tuple(values), {}, target)


def _usual_target(batch: Any) -> Any:
    """The label of a dict; of a tuple that begins with what holds the inputs, the second, as in `_of_sequence`."""
    if isinstance(batch, Mapping):
        return next((batch[name] for name in LABELS if name in batch), None)
    if not isinstance(batch, tuple | list) or not batch:
        return None
    return batch[1] if len(batch) > 1 else _usual_target(batch[0]) if isinstance(batch[0], Mapping) else None


def _target_beside(batch: Any, inputs: Sequence[Any]) -> Any:
    """The label where `inputs` were taken from a batch: of a tuple of parts, the only one that is none of them."""
    if not isinstance(batch, tuple | list) or not batch or isinstance(batch[0], Mapping | tuple | list):
        return _usual_target(batch)
    rest = [part for part in batch if all(part is not each for each in inputs)]
    if len(rest) == len(batch):  # they are made from the first ones
        rest = list(batch[len(inputs) :])
    return rest[0] if len(rest) == 1 else None


def _given_target(batch: Any, targets: Targets) -> Any:
    if callable(targets):
        return targets(batch)
    for part in (batch, *(batch if isinstance(batch, tuple | list) else ())):
        if isinstance(part, Mapping) and targets in part:
            return part[targets]
    raise InputError(f"targets names {targets}, which no batch has: name an entry of it, or give a function of it")
