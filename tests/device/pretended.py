"""A device that is not there: its tensors lie on the CPU, say that they do not, and behave as those of a GPU would.

They refuse to meet the CPU's tensors and generators where CUDA's would, every read by the host and every tensor sent by
it is counted, and random numbers are drawn from a stream of their own. Kernels are the CPU's, so results are its bits.
It is PyTorch's backend for private use, without a line of C++. What it has no say in: kernels, streams, and memory.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from rebasin_lt.storage import plain_content

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
_stream: list[Tensor] = []
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
        with _Mode():
            return func.decompose(*args, **kwargs)
    if ours and name not in COPIES:
        _check_together(func, name, args, given, kwargs.get("out"))
    raw_args, raw_kwargs = _changed(_beneath, (args, kwargs))
    if goes_here:
        raw_kwargs["device"] = torch.device("cpu")
    _check_generator(func, raw_args, raw_kwargs)
    with _own_stream(func, raw_args, raw_kwargs):
        result = func(*raw_args, **raw_kwargs)
    _count(name, args, ours, target, goes_here)
    if name == "copy_" and not isinstance(args[0], PretendedTensor):
        return args[0]
    if name == "_to_copy" and target is not None and not goes_here:
        return result
    return _dressed(func, args, kwargs, result)


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


def _changed(change: Callable[[Any], Any], value: Any) -> Any:
    """The same nest with every leaf changed."""
    if isinstance(value, dict):
        return {name: _changed(change, entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = [_changed(change, entry) for entry in value]
        return entries if isinstance(value, list) else tuple(entries)
    return change(value)


def _beneath(value: Any) -> Any:
    return value.raw if isinstance(value, PretendedTensor) else value


def _dressed(func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> Any:
    """The result as tensors of the device; what was written in place is the tensor that was given."""
    given = {id(x.raw): x for x in _leaves((args, kwargs)) if isinstance(x, PretendedTensor)}

    def dress(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return given.get(id(value)) if id(value) in given else PretendedTensor(value)

    return _changed(dress, result)


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
    torch.default_generator.set_state(_stream[0])
    try:
        yield
    finally:
        _stream[0] = torch.default_generator.get_state()
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


class _Mode(TorchDispatchMode):
    """Sees also what is made on the device from nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if PretendedTensor not in types and (kwargs is None or kwargs.get("device") is None):
            return func(*args, **(kwargs or {}))  # the CPU's alone, which are most
        return call(func, args, kwargs or {})


class _Module:
    """What `torch.pretended` is, as `torch.cuda` is for GPUs."""

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        _stream[:] = [torch.Generator().manual_seed(seed).get_state()]

    manual_seed = manual_seed_all

    def get_rng_state(self, device: Any = None) -> Tensor:
        return _stream[0].clone()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        _stream[:] = [state.clone()]

    def synchronize(self, device: Any = None) -> None:
        note("reads", "synchronize")

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def announce() -> None:
    """Say that a device may come. The autograd engine counts devices at the first backward pass in a process.

    PyTorch knows backends written in Python since 2.10; before, there is no pretended device.
    """
    if hasattr(backend_registration, "_DummyDeviceGuard"):
        torch._C._acc.register_python_privateuseone_device_guard(backend_registration._DummyDeviceGuard())


def register() -> None:
    """Make the device known to PyTorch, once in a process. Without `pretending`, it has no tensors."""
    if hasattr(torch, NAME):
        return
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    getattr(torch, NAME).manual_seed_all(0)


@contextmanager
def pretending() -> Iterator[torch.device]:
    """Within, `torch.device("pretended")` is there."""
    register()
    torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor([1], device=…)` copies where a mode sees it
    try:
        with _Mode(), _moved_in_place(), _traced_beneath(), _written_as_plain():
            yield torch.device(NAME, 0)
    finally:
        torch._C._set_only_lift_cpu_tensors(False)


@contextmanager
def _moved_in_place() -> Iterator[None]:
    """`network.to(device)` keeps its parameters the same objects, as on a GPU."""
    swap = torch.utils.swap_tensors
    torch.utils.swap_tensors = _become
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch.utils.swap_tensors = swap
        torch.__future__.set_swap_module_params_on_conversion(False)


def _become(tensor: Tensor, other: Tensor) -> None:
    """Make one what the other is. PyTorch's own way refuses tensors that anybody holds a weak reference to."""
    if type(tensor) is type(other):
        tensor.data = other.detach()
        return
    tensor.__class__, other.__class__ = type(other), type(tensor)
    tensor.__dict__, other.__dict__ = other.__dict__, tensor.__dict__
    torch._C._swap_tensor_impl(tensor, other)


@contextmanager
def _written_as_plain() -> Iterator[None]:
    """Tensors of a GPU are plain ones to `plain_content`, which refuses other classes."""
    plain_tensor = plain_content._plain_tensor

    def plain(value: Tensor, place: str) -> Tensor:
        found = plain_tensor(_beneath(value), place)
        return PretendedTensor(found) if isinstance(value, PretendedTensor) else found

    plain_content._plain_tensor = plain
    try:
        yield
    finally:
        plain_content._plain_tensor = plain_tensor


@contextmanager
def _traced_beneath() -> Iterator[None]:
    """`torch.export` looks at tensors' shapes alone, and refuses classes of others: it is given what lies beneath."""
    export = torch.export.export

    def beneath(model: torch.nn.Module, args: Any, kwargs: Any = None, **settings: Any) -> Any:
        with _on_the_cpu(model), _disable_current_modes():
            return export(model, *_changed(_beneath, (args, kwargs)), **settings)

    torch.export.export = beneath
    try:
        yield
    finally:
        torch.export.export = export


@contextmanager
def _on_the_cpu(model: torch.nn.Module) -> Iterator[None]:
    """Put what lies beneath in the place of the model's tensors, for a while."""
    undo: list[Callable[[], None]] = []
    moved: dict[int, Tensor] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if isinstance(tensor, PretendedTensor):
                    plain = torch.nn.Parameter(tensor.raw) if table is module._parameters else tensor.raw
                    table[name] = moved.setdefault(id(tensor), plain)
                    undo.append(lambda table=table, name=name, tensor=tensor: table.__setitem__(name, tensor))
    try:
        yield
    finally:
        for restore in undo:
            restore()
