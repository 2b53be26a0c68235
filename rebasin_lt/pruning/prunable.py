"""A network's prunable parameters: its weight matrices and kernels, by rule, and what the others are."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from rebasin_lt.batches import network_of
from rebasin_lt.errors import InputError
from rebasin_lt.pruning.weight_norm import directions

SHORTCUTS = ("shortcuts",)
"""What `exclude` names by default: projection shortcuts, dense as in the paper's code (its text does not say so)."""

_EXCLUDED = "excluded"
_PARAMETRIZATION = ".parametrizations."


@dataclass(frozen=True)
class Prunable:
    """The matrices and kernels of a network: floating parameters of two or more dimensions, each under its first name.

    `names` can be pruned; `dense` are all others, each with its kind, a key of `WEIGHT_KINDS` or `excluded`; `sizes`
    are the numbers of elements of both.
    """

    names: tuple[str, ...]
    dense: Mapping[str, str]
    sizes: Mapping[str, int]

    def describe(self) -> str:
        """One line that names every matrix that stays dense, by kind, with its share of all their elements."""
        total = max(1, sum(self.sizes.values()))
        parts: dict[str, list[str]] = {}
        for name, kind in self.dense.items():
            parts.setdefault(kind, []).append(f"{name} {self.sizes[name] / total:.2%}")
        share = sum(self.sizes[name] for name in self.dense) / total
        listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in parts.items())
        return (
            f"{share:.2%} of the elements of all matrices stay dense ({listed})" if parts else "no matrix stays dense"
        )


def prunable(model: nn.Module, exclude: Iterable[str] = SHORTCUTS, include: Iterable[str] = ()) -> Prunable:
    """Tell the matrices and kernels of `model` that can be pruned from those that stay dense.

    All can but those of a kind in `WEIGHT_KINDS`, and those that `exclude` names; those that `include` names can in
    any case. Both hold patterns of parameter names, or kinds; `shortcuts` are a kind that stays dense only if excluded.
    A weight used several times counts once, and can be pruned if any use of it can. Raises InputError where nothing is
    left to prune, where `include` names nothing, and for lazy layers that have seen no input.
    """
    model, exclude, include = network_of(model), tuple(exclude), tuple(include)
    saved = model.state_dict().keys()
    uses: dict[int, list[_Use]] = {}
    for use in _uses(model):
        uses.setdefault(id(use.tensor), []).append(use)
    matrices = {same[0].name: same for same in uses.values() if _is_matrix(same[0], model)}
    kinds = {name: _kind(same, saved, exclude, include) for name, same in matrices.items()}
    for pattern in include:
        if not any(use.named(pattern) for same in matrices.values() for use in same):
            raise InputError(
                f"include names {pattern!r}, which fits no weight matrix of {type(model).__name__}: expected patterns "
                f"of parameter names, or {', '.join(WEIGHT_KINDS)}"
            )
    names = tuple(name for name, kind in kinds.items() if kind is None)
    if not names:
        raise InputError(
            f"no prunable weight in {type(model).__name__}: of its {len(matrices)} matrices and kernels "
            f"exclude={list(exclude)} leaves none"
        )
    dense = {name: kind for name, kind in kinds.items() if kind is not None}
    return Prunable(names, dense, {name: same[0].tensor.numel() for name, same in matrices.items()})


def prunable_names(model: nn.Module, exclude: Iterable[str] = SHORTCUTS, include: Iterable[str] = ()) -> list[str]:
    """The names of `prunable`, in the order of the network's parameters. Raises as it."""
    return list(prunable(model, exclude, include).names)


@dataclass(frozen=True)
class _Use:
    """A parameter under one of its names: the module that owns it, and what that calls it (`weight_ih_l0`).

    Of a parametrised weight, both are those of the weight.
    """

    name: str
    tensor: Tensor
    owner: nn.Module
    own: str
    is_length: bool  # of weight norm

    @property
    def is_weight(self) -> bool:
        return "weight" in self.own

    def named(self, pattern: str) -> bool:
        """True if a pattern of names, or a kind, means this use."""
        return WEIGHT_KINDS[pattern](self) if pattern in WEIGHT_KINDS else fnmatch(self.name, pattern)


def _uses(model: nn.Module) -> Iterator[_Use]:
    lengths = set(directions(model).values())
    for name, tensor in model.named_parameters(remove_duplicate=False):
        path, parametrised, rest = f".{name}".rpartition(_PARAMETRIZATION)
        if parametrised:
            owner, own = path[1:], rest.partition(".")[0]
        else:
            parts = name.split(".")
            owner = ".".join(parts[:-1])
            own = next((part for part in reversed(parts) if not part.isdigit()), name)  # of a list, the list's name
        yield _Use(name, tensor, model.get_submodule(owner), own, name in lengths)


def _is_matrix(use: _Use, model: nn.Module) -> bool:
    if is_lazy(use.tensor):
        raise InputError(
            f"{use.name} of {type(model).__name__} is of a lazy layer that has seen no input and has no shape yet: "
            "run a batch through the network in the module's setup or configure_model"
        )
    return use.tensor.dim() >= 2 and use.tensor.is_floating_point()


def _kind(same: list[_Use], saved: Collection[str], exclude: tuple[str, ...], include: tuple[str, ...]) -> str | None:
    """Why a parameter stays dense; None if it can be pruned. `same` are all its uses."""
    if not any(use.name in saved for use in same):
        return "left out of checkpoints"
    if any(use.named(pattern) for use in same for pattern in include):
        return None
    kinds = [next((kind for kind, holds in _DENSE.items() if holds(use)), None) for use in same]
    if None not in kinds:
        return kinds[0]
    named = next((pattern for pattern in exclude if any(use.named(pattern) for use in same)), None)
    return named if named is None or named in WEIGHT_KINDS else _EXCLUDED


def _is_norm(use: _Use) -> bool:
    """Of a normalisation layer, torch's or another's; their names say so."""
    return re.search("Norm(?!ed|al)", type(use.owner).__name__) is not None


def _is_embedding(use: _Use) -> bool:
    """A table of which rows are looked up, or that is added to what was: nothing is multiplied by it."""
    return isinstance(use.owner, (nn.Embedding, nn.EmbeddingBag)) or "embed" in use.own


def _is_scale(use: _Use) -> bool:
    """What is no weight by name and has an axis of one entry, along which it is repeated: tokens, layer scales."""
    return not use.is_weight and 1 in use.tensor.shape


def _is_shortcut(use: _Use) -> bool:
    """The projection of a residual block: under `shortcut`, or a 1x1 kernel under `downsample`.

    `downsample` is also what ConvNeXt and Swin call the layers between their stages, which have no path beside them:
    those are larger kernels or linear layers.
    """
    path = use.name.lower()
    pointwise = use.tensor.dim() > 2 and all(size == 1 for size in use.tensor.shape[2:])
    return "shortcut" in path or ("downsample" in path and pointwise)


_DENSE: dict[str, Callable[[_Use], bool]] = {
    "biases": lambda use: "bias" in use.own,
    "norms": _is_norm,
    "embeddings": _is_embedding,
    "lengths": lambda use: use.is_length,  # that weight norm keeps apart from directions
    "scales": _is_scale,
}
WEIGHT_KINDS: dict[str, Callable[[_Use], bool]] = {**_DENSE, "shortcuts": _is_shortcut}
"""Kinds of parameters of two or more dimensions that are no weight matrix or kernel between units, and shortcuts.

Embeddings stay dense because a row is looked up, not multiplied: it connects no units, and its scale, of 1 where
matrices have 1/sqrt(inputs), would keep it whole while global magnitude pruning empties the layers. The decoder that
is tied to one is a matrix, and pruned.
"""
