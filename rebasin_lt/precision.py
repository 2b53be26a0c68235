"""The precision of what is measured: fp32 means fp32, and sums are fp64 where a device has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_WITHOUT_DOUBLE = {"mps"}
"""Kinds of devices that have no fp64."""


def sum_dtype(device: torch.device) -> torch.dtype:
    """The dtype in which sums over a data set are kept on a device: fp64, or fp32 where it has none (Apple's MPS)."""
    return torch.float32 if device.type in _WITHOUT_DOUBLE else torch.float64


def sum_device(device: torch.device) -> torch.device:
    """The device of fp64 sums over data on `device`: it, or the CPU where it has no fp64."""
    return torch.device("cpu") if device.type in _WITHOUT_DOUBLE else device


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Within, fp32 convolutions, recurrences and products are computed in fp32, whatever was set before.

    cuDNN's convolutions round their factors to TF32 (10 bits of mantissa) unless told otherwise, products do where
    `torch.set_float32_matmul_precision` or `torch.backends.fp32_precision` say so, and autocast takes 16 bits. A number
    that compares networks must not depend on such settings. They are as before afterwards.
    """
    with torch.autocast(device.type, enabled=False), _without_tf32() if _settings() else _without_tf32_before_2_9():
        yield


@contextmanager
def exportable() -> Iterator[None]:
    """Within, `torch.export` works whatever was set; the settings are as before afterwards.

    It reads the setting of MKL-DNN, and sets it to what it read: one that follows the general setting would stop to.
    So there is no general one meanwhile. Nothing is computed in an export, so any precision will do.
    """
    backends: Any = torch.backends
    general = backends.fp32_precision if _settings() else None
    if general is not None:
        backends.fp32_precision = "none"
    try:
        with _readable_cudnn():
            yield
    finally:
        if general is not None:
            backends.fp32_precision = general


@contextmanager
def _readable_cudnn() -> Iterator[None]:
    """Export reads cuDNN's setting through the old interface, which refuses an answer once the new one has told
    convolutions and recurrences apart from the old flag. Any answer will do."""
    cudnn: Any = torch.backends.cudnn  # type stubs lack its parts
    try:
        _ = cudnn.allow_tf32
    except RuntimeError:
        parts = cudnn.conv, cudnn.rnn
        before = [part.fp32_precision for part in parts]
        cudnn.allow_tf32 = True
        try:
            yield
        finally:
            for part, value in zip(parts, before, strict=True):
                part.fp32_precision = value
    else:
        yield


def _settings() -> list[Any]:
    """The settings of precision that torch ≥ 2.9 has, from the general to the special; none before."""
    backends = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):
        return []
    special = [
        getattr(backend, name)
        for backend in (backends.cudnn, backends.mkldnn)
        for name in ("conv", "rnn", "matmul")
        if hasattr(backend, name)
    ]
    return [backends, backends.cudnn, backends.cuda.matmul, *special]  # cudnn's own is that of all of CUDA


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Set "ieee" where it does not hold yet, from the general to the special.

    A special setting that was never made follows the general one, and would stop to if it were set. So only those are
    set, and set back, that still differ once the general one is "ieee".
    """
    before = []
    try:
        for setting in _settings():
            if setting.fp32_precision != "ieee":
                before.append((setting, setting.fp32_precision))
                setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, value in reversed(before):
            setting.fp32_precision = value


@contextmanager
def _without_tf32_before_2_9() -> Iterator[None]:
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
