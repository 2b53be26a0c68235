"""Making the pretended device known to PyTorch, and having it there for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pretended import NAME, Everywhere, PretendedTensor, beneath, changed, note, stream
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import _disable_current_modes

from rebasin_lt.storage import plain_content


class _Module:
    """What `torch.pretended` is, as `torch.cuda` is for GPUs; it cannot be taken back, so it says when it is there."""

    is_here = False

    def is_available(self) -> bool:
        return self.is_here

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:
        stream[:] = [torch.Generator().manual_seed(seed).get_state()]

    manual_seed = manual_seed_all

    def get_rng_state(self, device: Any = None) -> Tensor:
        return stream[0].clone()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        stream[:] = [state.clone()]

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
    getattr(torch, NAME).is_here = True
    torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor([1], device=…)` copies where a mode sees it
    try:
        with Everywhere(), _moved_in_place(), _traced_beneath(), _written_as_plain():
            yield torch.device(NAME, 0)
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        getattr(torch, NAME).is_here = False


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
        found = plain_tensor(beneath(value), place)
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

    def exported(model: torch.nn.Module, args: Any, kwargs: Any = None, **settings: Any) -> Any:
        with _on_the_cpu(model), _disable_current_modes():
            return export(model, *changed(beneath, (args, kwargs)), **settings)

    torch.export.export = exported
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
