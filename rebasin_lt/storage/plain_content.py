"""Content of checkpoints in types that the reader takes: tensors, containers and primitives, no object of any class."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rebasin_lt.errors import InputError

_AS_THEY_ARE = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.dtype, torch.device, torch.Size)
_PRIMITIVES: tuple[type, ...] = (int, float, complex, str, bytes)
_MAX_DEPTH = 100


def plain_content(content: Any, place: str = "") -> Any:
    """`content` in types that `read_tensors` gives back; the tensors share the memory of those given.

    Scalars of NumPy and members of enumerations of numbers or texts become Python's, paths texts, mappings dicts,
    named tuples tuples, parameters tensors. Raises InputError for all else, such as a module or a function, which would
    have to be unpickled, and names its `place`: the keys that lead to it, with points between them.
    """
    return _plain(content, place, 0)


def _plain(value: Any, place: str, depth: int) -> Any:
    if type(value) in _AS_THEY_ARE:
        return value
    if depth > _MAX_DEPTH:
        raise InputError(
            f"{place:.100}… is nested more than {_MAX_DEPTH} deep, which checkpoints cannot be: flatten it"
        )
    if isinstance(value, Tensor):
        return _plain_tensor(value, place)
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
        if type(value) in _AS_THEY_ARE:
            return value
    if isinstance(value, Mapping):
        return _plain_mapping(value, place, depth)
    if isinstance(value, list | tuple | set | frozenset):
        kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
        entries = (_plain(entry, f"{place}.{index}", depth + 1) for index, entry in enumerate(value))
        return set(entries) if kind is frozenset else kind(entries)
    if isinstance(value, Path):
        return str(value)
    for primitive in _PRIMITIVES:
        if isinstance(value, primitive):
            return primitive(value) if type(value) is not primitive else value
    if isinstance(value, np.floating):  # numpy's own long double
        return float(value)
    raise _refused(value, place)


def _plain_mapping(value: Mapping[Any, Any], place: str, depth: int) -> dict[Any, Any]:
    kind: type[dict[Any, Any]] = type(value) if type(value) in {OrderedDict, Counter} else dict  # type: ignore[assignment]
    plain = kind()
    for key, entry in value.items():
        inside = f"{place}.{key}".lstrip(".")
        plain[_plain(key, inside, depth + 1)] = _plain(entry, inside, depth + 1)
    if kind is OrderedDict and hasattr(value, "_metadata"):  # versions of modules, which `load_state_dict` asks for
        plain._metadata = _plain(value._metadata, f"{place}._metadata", depth + 1)  # type: ignore[attr-defined]
    return plain


def _plain_tensor(value: Tensor, place: str) -> Tensor:
    if type(value) not in {Tensor, nn.Parameter} or value.layout != torch.strided or value.is_meta:
        raise _refused(value, place)
    plain = value.detach()  # without the attributes that somebody gave it
    shows_more = plain.numel() * plain.element_size() > plain.untyped_storage().nbytes()  # expanded: the reader's bomb
    return plain.contiguous() if shows_more else plain


def _refused(value: Any, place: str) -> InputError:
    name = place.rpartition(".")[2]
    advice = "save numbers, texts, lists and tensors of it, or leave it out"
    if place.startswith(("hyper_parameters.", "datamodule_hyper_parameters.")):
        advice = f"leave it out of the hyperparameters (save_hyperparameters(ignore=[{name!r}]))"
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return InputError(f"{place} is a {kind}, which would have to be unpickled to be read again: {advice}")
