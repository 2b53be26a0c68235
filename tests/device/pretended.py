"""A device that is not there: its tensors lie on the CPU, say that they do not, and behave as those of a GPU would.

They refuse to meet the CPU's tensors and generators where CUDA's would, every read by the host and every tensor sent by
it is counted, a copy to the host that is not waited for is not there yet, and random numbers are drawn from a stream of
their own. Kernels are the CPU's, so results are its bits. It is PyTorch's backend for private use, without a line of
C++. What it has no say in: kernels, other streams, and memory.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "pretended"
VALUES = {"_local_scalar_dense", "is_nonzero", "equal"}
SIZES = {"nonzero", "bincount", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive"}
"""Results whose size the host must read: with it come all indices by truth values, and `repeat_interleave`."""
INDICES = {"index", "index_put", "index_put_", "_index_put_impl_"}
COPIES = {"_to_copy", "copy_", "copy"}
NUMBERS = {"index_fill", "index_fill_", "masked_fill", "masked_fill_", "where", "fill", "fill_", "lerp"}
"""Operators beside the pointwise ones that take a number which lies on the CPU."""


class PretendedTensor(torch.Tensor):
    """A tensor of the pretended device; `raw` is the CPU's beneath."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> PretendedTensor:
        layout = {"strides": raw.stride(), "storage_offset": raw.storage_offset(), "dtype": raw.dtype}
        found = torch.Tensor._make_wrapper_subclass(cls, raw.size(), device=torch.device(NAME, 0), **layout)
        found.raw = raw
        return found

    def __repr__(self, **_: Any) -> str:
        return f"Pretended{self.raw}"

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, PretendedTensor):
            raise RuntimeError("attempted to call `variable.set_data(tensor)`, but they have incompatible tensor type.")
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.raw = value.raw

    def untyped_storage(self) -> torch.UntypedStorage:
        """Whose address says which tensors share memory."""
        return self.raw.untyped_storage()

    def data_ptr(self) -> int:
        return self.raw.data_ptr()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A file holds the numbers, as one of a GPU's tensors does; they are read onto the CPU."""
        note("reads", "pickled")
        return self.raw.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied = PretendedTensor(self.raw.clone()).requires_grad_(self.requires_grad)
            memo[id(self)] = torch.nn.Parameter(copied, self.requires_grad) if hasattr(self, "_is_param") else copied
            memo[id(self)].grad = None if self.grad is None else self.grad.clone()
        return memo[id(self)]  # type: ignore[no-any-return]

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return call(func, args, kwargs or {})


class Counts:
    """What crossed between host and device: names of operators in order, and with `where`, the lines that did it."""

    def __init__(self) -> None:
        self.reads: list[str] = []
        self.sends: list[str] = []
        self.where: list[str] = []


_watching: list[Counts] = []
stream: list[Tensor] = []
"""The state of the device's random numbers."""


@contextmanager
def counted() -> Iterator[Counts]:
    """Within, reads and sends are written down."""
    counts = Counts()
    _watching.append(counts)
    try:
        yield counts
    finally:
        _watching.remove(counts)


def note(kind: str, name: str) -> None:
    for counts in _watching:
        getattr(counts, kind).append(name)
        frames = [frame for frame in traceback.extract_stack() if "rebasin_lt" in frame.filename]
        counts.where.append(f"{kind} {name} at {frames[-1].filename}:{frames[-1].lineno}" if frames else name)


def call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operator on what lies beneath, as far as a GPU would take these tensors together."""
    name, given = func.overloadpacket.__name__, [x for x in _leaves((args, kwargs)) if isinstance(x, Tensor)]
    ours = [x for x in given if isinstance(x, PretendedTensor)]
    target = kwargs.get("device")
    goes_here = target is not None and torch.device(target).type == NAME
    if not ours and not goes_here:
        return func(*args, **kwargs)
    if func._can_decompose():  # in inference mode operators come before they are taken apart
        with Everywhere():
            return func.decompose(*args, **kwargs)
    if ours and name not in COPIES:
        _check_together(func, name, args, given, kwargs.get("out"))
    raw_args, raw_kwargs = changed(beneath, (args, kwargs))
    if goes_here:
        raw_kwargs["device"] = torch.device("cpu")
    _check_generator(func, raw_args, raw_kwargs)
    with _own_stream(func, raw_args, raw_kwargs):
        result = func(*raw_args, **raw_kwargs)
    _count(name, args, ours, target, goes_here)
    if name == "copy_" and not isinstance(args[0], PretendedTensor):
        return args[0]
    if name == "_to_copy" and target is not None and not goes_here:
        return _under_way(result) if kwargs.get("non_blocking") else result
    return _dressed(func, args, kwargs, result)


def _under_way(copy: Tensor) -> Tensor:
    """What the host finds of a copy that it does not wait for: memory that nothing was written to yet."""
    return torch.full_like(copy, torch.nan if copy.is_floating_point() else 0)


def _leaves(value: Any) -> Iterator[Any]:
    """All that is in nested lists, tuples and dicts: what operators take. PyTorch's own walk takes several times as
    long as a small operator."""
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _leaves(entry)
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _leaves(entry)
    else:
        yield value


def changed(change: Callable[[Any], Any], value: Any) -> Any:
    """The same nest with every leaf changed."""
    if isinstance(value, dict):
        return {name: changed(change, entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = [changed(change, entry) for entry in value]
        return entries if isinstance(value, list) else tuple(entries)
    return change(value)


def beneath(value: Any) -> Any:
    return value.raw if isinstance(value, PretendedTensor) else value


def _dressed(func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> Any:
    """The result as tensors of the device; what was written in place is the tensor that was given."""
    given = {id(x.raw): x for x in _leaves((args, kwargs)) if isinstance(x, PretendedTensor)}

    def dress(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return given.get(id(value)) if id(value) in given else PretendedTensor(value)

    return changed(dress, result)


def _check_together(func: Any, name: str, args: Any, given: Sequence[Tensor], out: Any) -> None:
    """Refuse tensors of both sides, but for a number of the CPU among pointwise operands, and indices on the CPU."""
    strangers = [x for x in given if not isinstance(x, PretendedTensor)]
    if strangers and name in INDICES and isinstance(args[0], PretendedTensor):
        note("sends", "an index of the CPU")  # CUDA copies it in every call, and waits for the copy
        strangers = [x for x in args[2:3] if isinstance(x, Tensor) and not isinstance(x, PretendedTensor)]
    takes_numbers = torch.Tag.pointwise in func.tags or name in NUMBERS | INDICES or name.startswith("_foreach")
    written = args[:1] if name.endswith("_") else (out,)
    if any(x.dim() > 0 or not takes_numbers or any(x is other for other in written) for x in strangers):
        shapes = ", ".join(f"{x.device} {tuple(x.shape)}" for x in given)
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found {shapes}")


def _check_generator(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    for value in _leaves((args, kwargs)):
        if isinstance(value, torch.Generator):
            raise RuntimeError(f"{func}: expected a '{NAME}' device type for generator but found '{value.device}'")


@contextmanager
def _own_stream(func: Any, args: Any, kwargs: dict[str, Any]) -> Iterator[None]:
    """Have an operator draw from the device's random numbers, which are not the CPU's."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        yield
        return
    before = torch.default_generator.get_state()
    torch.default_generator.set_state(stream[0])
    try:
        yield
    finally:
        stream[0] = torch.default_generator.get_state()
        torch.default_generator.set_state(before)


def _count(name: str, args: Any, ours: Sequence[Tensor], target: Any, goes_here: bool) -> None:
    if name == "_to_copy" and (target is not None):
        if ours and not goes_here:
            note("reads", "a copy to the host")
        elif goes_here and not ours:
            note("sends", "a copy to the device")
    elif name == "copy_":
        to_us, from_us = (isinstance(x, PretendedTensor) for x in args[:2])
        if to_us != from_us:
            note("sends" if to_us else "reads", "copy_")
    elif ours and (name in VALUES | SIZES or (name == "repeat_interleave" and len(args) < 2)):
        note("reads", name)
    elif ours and name in INDICES and any(i is not None and i.dtype in {torch.bool, torch.uint8} for i in args[1]):
        note("reads", f"{name} by truth values")


class Everywhere(TorchDispatchMode):
    """Sees also what is made on the device from nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if PretendedTensor not in types and (kwargs is None or kwargs.get("device") is None):
            return func(*args, **(kwargs or {}))  # the CPU's alone, which are most
        return call(func, args, kwargs or {})
