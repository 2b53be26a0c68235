"""The kinds of control masks: how each is made, from which options."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.subjects import Images
from rebasin_lt.lit.checkpoint import LoadedNetwork
from rebasin_lt.lit.data.loader import ImageLoader
from rebasin_lt.pruning.allocation import random_erk, random_uniform
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.mix import mix_with_magnitude
from rebasin_lt.pruning.ranking import check_sparsity
from rebasin_lt.pruning.saliency import grasp, snip
from rebasin_lt.pruning.shuffles import permute_randomly, shuffle_degrees, shuffle_layerwise
from rebasin_lt.pruning.synflow import synflow
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

Progress = Callable[[str, int, int], None]
_NETWORK = ("ckpt", "model", "width", "num_classes")
_AMOUNT = ("mask", "sparsity")
_IMAGES = ("data", "root", "n_images", "batch_size", "seed", "device")
_DEFAULTS = {"share": 0.5, "seed": 0, "batch_size": 500, "width": 1, "num_classes": 10, "device": "auto"}


_NEEDED = {"mask": "the mask file to start from", "ckpt": "a checkpoint of the network"}


@dataclass(frozen=True)
class Control:
    """What to make from what; see the options of `rebasin-lt control`. None: not given."""

    kind: str
    mask: str | None = None
    sparsity: float | None = None
    ckpt: str | None = None
    model: str | None = None
    width: float | None = None
    num_classes: int | None = None
    data: str | None = None
    root: str | None = None
    n_images: int | None = None
    batch_size: int | None = None
    share: float | None = None
    seed: int | None = None
    device: str | None = None

    def value(self, option: str) -> Any:
        """What is given for an option, or else its default."""
        given = getattr(self, option)
        return _DEFAULTS.get(option) if given is None else given


@dataclass(frozen=True)
class Sources:
    """What the files hold. `dense` has the names and shapes of the control to be, everything kept."""

    settings: Control
    imitated: Mask | None
    loaded: LoadedNetwork | None
    images: Images | None
    dense: Mask

    @property
    def mask(self) -> Mask:
        assert self.imitated is not None  # checked by `check`, as what follows
        return self.imitated

    @property
    def network(self) -> nn.Module:
        assert self.loaded is not None
        return self.loaded.network

    @property
    def batches(self) -> ImageLoader:
        assert self.images is not None
        return self.images.train

    @property
    def sparsity(self) -> float:
        return self.mask.sparsity if self.settings.sparsity is None else self.settings.sparsity

    @property
    def input_shape(self) -> tuple[int, ...]:
        assert self.loaded is not None
        return self.loaded.image_shape(self.settings.model)

    @property
    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.settings.value("seed"))

    @property
    def symmetry(self) -> Symmetry:
        return trace_symmetry(self.network, torch.zeros(2, *self.input_shape))


class Kind(NamedTuple):
    """How a kind is made, the options it uses, and those of them that it cannot do without."""

    make: Callable[[Sources, Progress], Mask]
    uses: tuple[str, ...]
    needs: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "random_permutation": Kind(
        lambda s, _: permute_randomly([s.mask], s.symmetry, s.generator)[0],
        ("mask", "seed", *_NETWORK),
        ("mask", "ckpt"),
    ),
    "shuffled": Kind(lambda s, _: shuffle_layerwise(s.mask, s.generator), ("mask", "seed"), ("mask",)),
    "degree_preserving": Kind(lambda s, _: shuffle_degrees(s.mask, s.generator), ("mask", "seed"), ("mask",)),
    "uniform": Kind(lambda s, _: random_uniform(s.dense, s.sparsity, s.generator), (*_AMOUNT, "seed", *_NETWORK)),
    "erk": Kind(lambda s, _: random_erk(s.dense, s.sparsity, s.generator), (*_AMOUNT, "seed", *_NETWORK)),
    "magnitude": Kind(
        lambda s, _: prune_to_sparsity(s.network.state_dict(), s.dense, s.sparsity), (*_AMOUNT, *_NETWORK), ("ckpt",)
    ),
    "mix": Kind(
        lambda s, _: mix_with_magnitude(s.mask, s.network.state_dict(), s.settings.value("share")),
        ("mask", "share", *_NETWORK),
        ("mask", "ckpt"),
    ),
    "snip": Kind(
        lambda s, _: snip(s.network, s.dense, s.batches, s.sparsity), (*_AMOUNT, *_NETWORK, *_IMAGES), ("ckpt",)
    ),
    "grasp": Kind(
        lambda s, _: grasp(s.network, s.dense, s.batches, s.sparsity), (*_AMOUNT, *_NETWORK, *_IMAGES), ("ckpt",)
    ),
    "synflow": Kind(
        lambda s, progress: synflow(
            s.network, s.dense, s.input_shape, s.sparsity, progress=partial(progress, "rounds")
        ),
        (*_AMOUNT, *_NETWORK, "device"),
        ("ckpt",),
    ),
}


def check(settings: Control) -> Kind:
    """The kind that is asked for. Raises InputError if it is unknown, lacks an option, or does not use a given one."""
    name = settings.kind
    if name not in KINDS:
        close = difflib.get_close_matches(name, KINDS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise InputError(f"--kind is {name!r}, which is not known{hint}: expected {', '.join(KINDS)}")
    kind = KINDS[name]
    _refuse(settings, [option for option in vars(settings) if option not in {"kind", *kind.uses}], "does not use it")
    for option in kind.needs:
        if getattr(settings, option) is None:
            raise InputError(f"--kind {name} needs {_flag(option)}: give {_NEEDED[option]}")
    _check_amount(settings, kind)
    return kind


def _check_amount(settings: Control, kind: Kind) -> None:
    """The sparsity comes from a mask or from a number, which needs a network that says what is prunable."""
    if (settings.mask is None) == (settings.sparsity is None):
        state = "neither is given" if settings.mask is None else "both are given"
        raise InputError(f"--kind {settings.kind} takes its sparsity from --mask or from --sparsity: {state}")
    if settings.sparsity is not None:
        check_sparsity(settings.sparsity)
        if settings.ckpt is None:
            raise InputError(f"--sparsity is {settings.sparsity}, but of which weights? give --ckpt, or --mask instead")
    if settings.sparsity is None and "ckpt" in kind.uses and "ckpt" not in kind.needs:
        _refuse(settings, _NETWORK, "does not use it beside --mask")


def _refuse(settings: Control, options: Iterable[str], reason: str) -> None:
    for option in options:
        if getattr(settings, option) is not None:
            raise InputError(
                f"{_flag(option)} is {getattr(settings, option)}, but --kind {settings.kind} {reason}: leave it out"
            )


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
