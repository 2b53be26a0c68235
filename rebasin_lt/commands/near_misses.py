"""Names on a command line or in a YAML that nothing has, and the ones that were meant. Light, as all of `--help`."""

from __future__ import annotations

import dataclasses
import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping

from rebasin_lt.commands.spelling import MEANT, with_classes_spelled
from rebasin_lt.commands.table import COMMANDS
from rebasin_lt.settings.choices import closest, near_in
from rebasin_lt.settings.user_code import ON_PATH
from rebasin_lt.storage.former_names import present_name

_NO_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
_NO_MODULE = re.compile(r"No module named '[\w.]+'")
_NO_MEMBER = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_NO_ARGUMENT = re.compile(r"Option '(\w+)' is not accepted")
_NO_OPTION = re.compile(r"unrecognized arguments: --([\w.]+)|does not accept option '([\w.]+)'")
"""Findings that an option is not known: on the command line, and in a file."""
_OF_CLASS = re.compile(r"Problem with given class_path '([\w.]+)':\s+Option '\w+' is not accepted")
_ENTRY_OF_A_LIST = "Not a valid subclass of "
"""How the finding begins that is about a whole list, of which one entry is wrong."""

_CLOSE = 0.75
"""How alike two options have to be, of 1: there are hundreds, and a far-fetched hint is worse than none."""


def with_meant(finding: str, report: str, where: str, command: str) -> str:
    """A parser's finding about the option `where`, with the name that was meant if it is of one that nothing has.

    `report` is all that the parser said, as it tries every type and names the fault among others.

    >>> with_meant("unrecognized arguments: --num_alpha 3", "", "", "barrier")
    'unrecognized arguments: --num_alpha 3 (did you mean --num-alphas?)'
    """
    if finding.startswith(_ENTRY_OF_A_LIST):
        found = (pattern.search(report) for pattern in (_NO_ARGUMENT, _NO_MODULE, _NO_MEMBER, _NO_CLASS))
        finding = next((fault[0] for fault in found if fault), finding)
    if fault := _NO_CLASS.fullmatch(finding):
        expected = "give a name such as CIFAR10 or Classifier, or package.module.Class"
        return f"{fault[1]!r} is no known class{_hint(_class_meant(fault[1], where))}; {expected}"
    if _NO_MODULE.fullmatch(finding):
        return finding + ON_PATH
    if fault := _NO_MEMBER.fullmatch(finding):
        return finding + near_in(fault[2], fault[1])
    if fault := _NO_ARGUMENT.search(finding):
        return finding + _of_callback(report, where) + _hint(_meant(fault[1], _arguments(report)))
    if fault := _NO_OPTION.search(finding):
        return _with_option(finding, fault[2] or fault[1], "--" if fault[1] else "", command)
    return finding


def _of_callback(report: str, where: str) -> str:
    """Of which callback an option of the command line is: it goes to the last of the list, whichever was thought of."""
    name = _OF_CLASS.search(report)
    if where != "trainer.callbacks" or "NestedArg" not in report or name is None:
        return ""
    return f" by {name[1].rpartition('.')[2]}, the last of the list, which options go to: set another's in a file"


def _with_option(finding: str, name: str, dashes: str, command: str) -> str:
    if command not in COMMANDS:
        meant = _meant(name, _options_of_fit())
        return finding + _hint(meant and dashes + meant)
    known = list(_paths(COMMANDS[command].types))
    present = present_name(name, known)
    if present is not None:
        return f"{_shown(dashes, name)} is now {_shown(dashes, present)}"
    meant = _meant(name, known)
    return finding + _hint(meant and _shown(dashes, meant))


def _meant(name: str, known: Iterable[str]) -> str:
    """The option that others call so, or else the one most like it; "" if there is none."""
    options = [option for option in known if option != name]
    ours = [option for option in options if option.rpartition(".")[2] == MEANT.get(name.rpartition(".")[2])]
    return ours[0] if ours else closest(name, options, _CLOSE)


def _hint(meant: str) -> str:
    return f" (did you mean {meant}?)" if meant else ""


def _shown(dashes: str, name: str) -> str:
    """An option as it is written: with dashes on the command line, as it stands in a file."""
    return dashes + name.replace("_", "-") if dashes else name


def _paths(types: Mapping[str, object], before: str = "") -> Iterator[str]:
    """The options of a command, and those below them, such as `recipe.targets`."""
    for name, kind in types.items():
        yield before + name
        if dataclasses.is_dataclass(kind):
            yield from _paths(typing.get_type_hints(kind), f"{before}{name}.")


def _options_of_fit() -> list[str]:
    """Those of Lightning's verbs, but for what belongs to the classes that they name."""
    from lightning import Trainer

    from rebasin_lt.settings.signatures import arguments

    own = ["model", "data", "trainer", "quiet", "global_batch", "resume", "config", "seed_everything", "ckpt_path"]
    return [*own, *(f"trainer.{name}" for name in arguments(Trainer))]


def _arguments(report: str) -> list[str]:
    """Those of the class that a parser's report says does not take one; none if it names no class."""
    from rebasin_lt.settings.signatures import arguments

    module, _, name = ["", *_OF_CLASS.findall(report)][-1].rpartition(".")
    kind = getattr(sys.modules.get(module), name, None)
    return list(arguments(kind)) if isinstance(kind, type) else []


def _class_meant(name: str, where: str) -> str:
    """The class that was meant: in another spelling, or the one most like it of all that may stand at `where`."""
    _, spelled = with_classes_spelled(["--data", name])
    return spelled if spelled != name else closest(name, _public_subclasses(where))


def _public_subclasses(where: str) -> list[str]:
    """The names of all classes that may stand there."""
    from lightning import Callback, LightningDataModule, LightningModule
    from lightning.pytorch.loggers import Logger

    bases: dict[str, type] = {"model": LightningModule, "data": LightningDataModule}
    bases |= {"trainer.callbacks": Callback, "trainer.logger": Logger}
    kinds: list[type] = bases[where].__subclasses__() if where in bases else []
    for kind in kinds:
        kinds += kind.__subclasses__()
    return sorted({kind.__name__ for kind in kinds if not kind.__name__.startswith("_")})
