"""What people write on a command line, as the parsers read it: lists in any form, classes in either, near misses.

Light, as all that `--help` needs.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rebasin_lt.errors import InputError

MEANT = {
    **dict.fromkeys(("train", "prune", "imp", "run"), "fit"),
    **dict.fromkeys(("eval", "evaluate"), "test"),
    **dict.fromkeys(("match", "align", "rebasin", "alignment"), "permute"),
    **dict.fromkeys(("diff", "table"), "compare"),
    **dict.fromkeys(("interpolate", "lmc"), "barrier"),
    **dict.fromkeys(("sweep", "grid"), "study"),
    **{"plot": "report", "lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size", "epochs": "max_epochs"},
    **{"sparsity": "targets", "sparsities": "targets", "architecture": "arch"},
}
"""What others call a command or an option, and its name here."""

_COLON = re.compile(r"data|model|loss|method|kind|(.+\.)?(arch|loss|criterion|module|data\.name)")
"""Options whose code of the user's own is `package.module:name`."""
_DOT = re.compile(r"model|data|(.+\.)?class_path|trainer\.(logger|callbacks\+?|plugins)")
"""Those of Lightning's verbs that take `package.module.Class`."""


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """`--ckpt-a=x-y` as `--ckpt_a=x-y`: dashes and underscores are equal in names, values stay; `--` ends this."""
    result = list(arguments)
    for index, argument in enumerate(result):
        if argument == "--":
            break
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            result[index] = f"--{name.replace('-', '_')}{equals}{value}"
    return result


def spelled_out(arguments: Sequence[str], types: Mapping[str, object], positional: str = "") -> list[str]:
    """Give bare flags their `true`, and gather lists, by the types of the options.

    A list is `a b`, `a,b`, `[a, b]`, or the option several times. Words without an option are those of the list that
    is `positional`, if there is one.
    """
    lists: dict[str, list[str]] = {}
    result: list[str] = []
    collecting, awaits_value = positional, False
    for index, argument in enumerate(arguments):
        name, equals, value = argument[2:].partition("=") if argument.startswith("--") else ("", "", "")
        if name and is_list(type_of(name, types)):
            collecting, awaits_value = name, False
            lists.setdefault(name, []).extend([value] if equals else [])
        elif name:
            following = arguments[index + 1 : index + 2]
            bare = type_of(name, types) is bool and not equals and (not following or following[0].startswith("-"))
            collecting, awaits_value = positional, not (bare or equals)
            result.append(f"{argument}=true" if bare else argument)
        elif collecting and not awaits_value and not argument.startswith("-"):
            lists.setdefault(collecting, []).append(argument)
        else:
            awaits_value = argument.startswith("-")  # `-c FILE`
            result.append(argument)
    for name, words in lists.items():
        result.append(as_list(words) if name == positional else f"--{name}={as_list(words)}")
    return result


def as_list(words: Sequence[str]) -> str:
    """The words of a list as JSON; what is no list of texts and numbers stays as it was written.

    >>> as_list(["a", "b"]), as_list(["a,b"]), as_list(["[a,", "b]"]), as_list(['["a"]', "0.5"])
    ('["a", "b"]', '["a", "b"]', '["a", "b"]', '["a", 0.5]')
    """
    text = " ".join(words)
    if text == "null" or (text.startswith("[") and any(mark in text[1:] for mark in "[{")):
        return text
    found: list[str | int | float] = []
    for part in re.findall(r"\[[^\]]*\]|[^\s\[\]]+", text) if "[" in text else words:
        if part.startswith("["):
            with suppress(ValueError):
                found += json.loads(part)
                continue
            found += [_scalar(each.strip(" \"'")) for each in part[1:].rstrip("]").split(",") if each.strip()]
        else:
            found += [_scalar(each) for each in _at_commas(part) if each]
    return json.dumps(found)


def _at_commas(word: str) -> list[str]:
    """Split, but for `NAME=PATH,PATH`, which is one entry, and for the name of a file that has a comma."""
    return [word] if "," not in word or "=" in word or Path(word).exists() else word.split(",")


def type_of(name: str, types: Mapping[str, object]) -> object:
    """The type of an option, `recipe.targets` among them; None for one that is not known, or lies in a mapping."""
    first, _, rest = name.partition(".")
    kind = types.get(first)
    while rest and dataclasses.is_dataclass(kind):
        first, _, rest = rest.partition(".")
        kind = typing.get_type_hints(kind).get(first)
    return None if rest else kind


def is_list(annotation: object) -> bool:
    """True for lists and tuples, and for a union with one; not for a mapping whose values are such."""
    is_union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    parts = typing.get_args(annotation) if is_union else (annotation,)
    return any(typing.get_origin(part) in (tuple, list, Sequence) for part in parts)


def with_classes_spelled(arguments: Sequence[str], of_lightning: bool) -> list[str]:
    """Code of the user's own in the form that each option takes, `package.module:name` or `package.module.Class`.

    A name with a point is a path where such a file exists. The package's own datasets are found in either case.
    """
    result = list(arguments)
    for index, argument in enumerate(result):
        name, equals, value = argument[2:].partition("=") if argument.startswith("--") else ("", "", "")
        if not name or (not equals and index + 1 >= len(result)):
            continue
        value = value if equals else result[index + 1]
        if of_lightning and _DOT.fullmatch(name):
            value = _with_dots(name, value)
        elif _COLON.fullmatch(name):
            value = _with_colon(value)
        result[index if equals else index + 1] = f"--{name}={value}" if equals else value
    return result


def lists_in_brackets(arguments: Sequence[str]) -> list[str]:
    """Every option of several words, or of one with commas, as a list in brackets, where a parser knows the types."""
    result: list[str] = []
    words: list[str] = []
    for argument in [*arguments, "--"]:
        if not argument.startswith("--"):
            words.append(argument)
            continue
        if words and result and result[-1].startswith("--"):
            name, equals, value = result[-1].partition("=")
            several = [value, *words] if equals else words
            listed = len(several) > 1 or ("," in several[0] and not several[0].startswith(("[", "{")))
            result[-1:] = [f"{name}={as_list(several)}"] if listed else [result[-1], *words]
        else:
            result += words
        words = []
        name, equals, value = argument.partition("=")
        result.append(f"{name}=[{value}]" if "," in value and not value.startswith(("[", "{")) else argument)
    return result[:-1]


def _with_dots(name: str, value: str) -> str:
    """As Lightning's verbs take classes: `digits` is the class Digits."""
    if name in {"data", "data.class_path"} and (own := _DATASETS.get(_plain_name(value))):
        return own
    return re.sub(r"^([A-Za-z_][\w.]*):([A-Za-z_]\w*)$", r"\1.\2", value)


def _with_colon(value: str) -> str:
    """`package.module.name` as `package.module:name`."""
    dotted = re.fullmatch(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\.([A-Za-z_]\w*)", value)
    return f"{dotted[1]}:{dotted[2]}" if dotted and not Path(value).exists() else value


def _plain_name(name: str) -> str:
    return name.lower().replace("_", "")


_DATASETS = {
    _plain_name(name): name
    for name in ("Digits", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN", "ImageFolder", "ImageNet")
}
"""Classes of the datasets, by their names in small letters; a test compares with their registry."""


def check_command(name: str, known: Iterable[str]) -> None:
    """Raise InputError for a command that there is none of, with the one that was meant."""
    names = list(known)
    if name in names or name.startswith("-"):
        return
    close = [MEANT[name]] if MEANT.get(name) in names else difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(names)}"
    raise InputError(f"{name!r} is no command: {hint}")


def _scalar(text: str) -> str | int | float:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
