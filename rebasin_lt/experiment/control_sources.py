"""The options of a control mask, checked by its kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.controls import NETWORK, ControlKind, control_kind, import_control
from rebasin_lt.pruning.ranking import check_sparsity
from rebasin_lt.settings.options import ControlOptions
from rebasin_lt.settings.user_code import is_user_code

_NEEDED = {"mask": "the mask file to start from", "ckpt": "a checkpoint of the network"}


def check(options: ControlOptions) -> ControlKind:
    """The kind that is asked for. Raises InputError if it is unknown, lacks an option, or does not use a given one."""
    name = options.kind
    kind = control_kind(name)
    if is_user_code(name):
        import_control(name)
    _refuse(options, [option for option in vars(options) if option not in {"kind", *kind.uses}], "does not use it")
    for option in kind.needs:
        if getattr(options, option) is None:
            raise InputError(f"--kind {name} needs {_flag(option)}: give {_NEEDED[option]}")
    _check_amount(options, kind)
    return kind


def _check_amount(options: ControlOptions, kind: ControlKind) -> None:
    """The sparsity comes from a mask or from a number, which needs a network that says what is prunable."""
    if (options.mask is None) == (options.sparsity is None):
        state = "neither is given" if options.mask is None else "both are given"
        raise InputError(f"--kind {options.kind} takes its sparsity from --mask or from --sparsity: {state}")
    if options.sparsity is not None:
        check_sparsity(options.sparsity)
        if options.ckpt is None:
            raise InputError(f"--sparsity is {options.sparsity}, but of which weights? give --ckpt, or --mask instead")
    if options.sparsity is None and "ckpt" in kind.uses and "ckpt" not in kind.needs:
        _refuse(options, NETWORK, "does not use it beside --mask")


def _refuse(options: ControlOptions, names: Iterable[str], reason: str) -> None:
    """Raise InputError for an option among `names` that is given: that has another value than its default."""
    defaults = {field.name: field.default for field in fields(options)}
    for name in names:
        value = getattr(options, name)
        if value != defaults[name]:
            raise InputError(f"{_flag(name)} is {value}, but --kind {options.kind} {reason}: leave it out")


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
