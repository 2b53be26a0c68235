"""What a control mask is made from: options, checked by its kind, and what their files hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.control_kinds import NETWORK, ControlKind, control_kind, import_control
from rebasin_lt.experiment.subjects import Images
from rebasin_lt.lit.checkpoint import LoadedNetwork
from rebasin_lt.lit.data.loader import ImageLoader
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.ranking import check_sparsity
from rebasin_lt.settings.user_code import is_user_code
from rebasin_lt.symmetry.trace import Symmetry, trace_symmetry

Progress = Callable[[str, int, int], None]
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
    def share(self) -> float:
        return float(self.settings.value("share"))

    @property
    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.settings.value("seed"))

    @property
    def symmetry(self) -> Symmetry:
        return trace_symmetry(self.network, torch.zeros(2, *self.input_shape))


def check(settings: Control) -> ControlKind:
    """The kind that is asked for. Raises InputError if it is unknown, lacks an option, or does not use a given one."""
    name = settings.kind
    kind = control_kind(name)
    if is_user_code(name):
        import_control(name)
    _refuse(settings, [option for option in vars(settings) if option not in {"kind", *kind.uses}], "does not use it")
    for option in kind.needs:
        if getattr(settings, option) is None:
            raise InputError(f"--kind {name} needs {_flag(option)}: give {_NEEDED[option]}")
    _check_amount(settings, kind)
    return kind


def _check_amount(settings: Control, kind: ControlKind) -> None:
    """The sparsity comes from a mask or from a number, which needs a network that says what is prunable."""
    if (settings.mask is None) == (settings.sparsity is None):
        state = "neither is given" if settings.mask is None else "both are given"
        raise InputError(f"--kind {settings.kind} takes its sparsity from --mask or from --sparsity: {state}")
    if settings.sparsity is not None:
        check_sparsity(settings.sparsity)
        if settings.ckpt is None:
            raise InputError(f"--sparsity is {settings.sparsity}, but of which weights? give --ckpt, or --mask instead")
    if settings.sparsity is None and "ckpt" in kind.uses and "ckpt" not in kind.needs:
        _refuse(settings, NETWORK, "does not use it beside --mask")


def _refuse(settings: Control, options: Iterable[str], reason: str) -> None:
    for option in options:
        if getattr(settings, option) is not None:
            raise InputError(
                f"{_flag(option)} is {getattr(settings, option)}, but --kind {settings.kind} {reason}: leave it out"
            )


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
