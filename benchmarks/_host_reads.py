"""Counts what would make the host wait for a GPU, on any device: values and sizes that Python asks of tensors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rebasin_lt.commands.lightning_verbs import run
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.mask import Mask

_VALUES = {"_local_scalar_dense", "is_nonzero", "equal"}
_SIZES = {"nonzero", "bincount", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"}
_COPIES = {"_to_copy", "copy_"}
_METHODS = {"cpu", "numpy", "tolist", "__array__"}  # of a CPU tensor they pass by the dispatcher


class HostReads:
    """In its `with` block, `names` counts what read a value, or a size that depends on values, or left the device."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self._modes = (_Functions(self.names), _Operators(self.names))

    def __enter__(self) -> HostReads:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(kind, error, at)


class _Functions(TorchFunctionMode):
    def __init__(self, names: Counter[str]) -> None:
        super().__init__()
        self.names = names

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _METHODS:
            self.names[func.__name__] += 1
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    def __init__(self, names: Counter[str]) -> None:
        super().__init__()
        self.names = names

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _VALUES | _SIZES or (name in _COPIES and _devices(args, result) > 1) or _indexed_by_mask(name, args):
            self.names[name] += 1
        return result


def _devices(args: Any, result: Any) -> int:
    return len({value.device for value in (*args, result) if isinstance(value, Tensor)})


def _indexed_by_mask(name: str, args: Any) -> bool:
    """Whether it is an index of truth values, whose result is as long as there are true ones."""
    if name not in {"index", "index_put_", "_index_put_impl_"}:
        return False
    return any(index is not None and index.dtype in {torch.bool, torch.uint8} for index in args[1])


class Watch(Callback):
    """Counts from the start of step `FIRST` to the start of step `LAST`, loader and loop included."""

    FIRST, LAST = 2, 6
    reads = HostReads()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.FIRST:
            Watch.reads = HostReads().__enter__()
        if batch_idx == self.LAST:
            Watch.reads.__exit__(None, None, None)


def reads_of_fit(folder: Path, masked: bool) -> Counter[str]:
    """What a few steps of `rebasin-lt fit` read, with its callbacks, metrics and TensorBoard on; digits, ResNet20."""
    settings: dict[str, Any] = {
        "model": "MaskedClassifier" if masked else "Classifier",
        "model.arch": "resnet20",
        "model.width": 0.25,
        "model.input_shape": [1, 8, 8],
        "data": "Digits",
        "data.batch_size": 8,
        "data.train_size": 8 * (Watch.LAST + 1),
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": 1,
        "trainer.default_root_dir": folder / "run",
        "trainer.callbacks": "benchmarks._host_reads.Watch",
    }
    if masked:
        settings["model.mask"] = folder / "half.mask.safetensors"
        network = build_network("resnet20", width=0.25, input_shape=(1, 8, 8))
        weights = Mask.ones_like(network.state_dict())
        Mask({name: torch.rand(kept.shape) < 0.5 for name, kept in weights.items()}).save(settings["model.mask"])
    run(["fit", *(f"--{name}={value}" for name, value in settings.items())])
    return Watch.reads.names
