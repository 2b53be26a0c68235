"""What people write on a command line and in files, as parsers read it: lists in any form, classes in either, near
misses.

Light, as all that `--help` needs.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import shlex
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

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

_COLON = re.compile(r"data|model|kind|methods|(.+\.)?(arch|loss|criterion|module|method|data\.name)")
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


_OF_THE_PARSER = ("config", "help", "print_config", "print_shtab")
"""Options that every command has, and no class."""


def spelled_out(arguments: Sequence[str], types: Mapping[str, object], positional: str = "") -> list[str]:
    """Give bare flags their `true`, and gather lists, by the types of the options.

    A list is `a b`, `a,b`, `[a, b]`, or the option several times. Words without an option are those of the list that
    is `positional`, if there is one.
    """
    lists: dict[str, list[str]] = {}
    result: list[str] = []
    collecting, awaits_value, skipped = positional, False, -1
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
            known = {*types, *_OF_THE_PARSER}
            if positional and awaits_value and following and name.partition(".")[0] not in known:
                result[-1], awaits_value = f"{argument}={following[0]}", False
                skipped = index + 1  # else the parser takes the value of a misspelt option for the whole list
        elif index == skipped:
            continue
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
    >>> as_list(["an [own] name=a", "b"])  # a list in brackets begins with one
    '["an [own] name=a", "b"]'
    """
    text = " ".join(words)
    if text == "null" or (text.startswith("[") and any(mark in text[1:] for mark in "[{")):
        return text
    brackets = any(word.startswith("[") for word in words)
    found: list[str | int | float] = []
    for part in re.findall(r"\[[^\]]*\]|[^\s\[\]]+", text) if brackets else words:
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


def with_classes_spelled(arguments: Sequence[str]) -> list[str]:
    """Code of the user's own in the form that each option of Lightning's verbs takes.

    That is `package.module.Class`, or `package.module:name` for what is asked for by name; a name with a point is a
    path where such a file exists. The package's own datasets are found in either case.
    """
    result = list(arguments)
    for index, argument in enumerate(result):
        name, equals, value = argument[2:].partition("=") if argument.startswith("--") else ("", "", "")
        if not name or (not equals and index + 1 >= len(result)):
            continue
        value = _of_lightning(name, value if equals else result[index + 1])
        result[index if equals else index + 1] = f"--{name}={value}" if equals else value
    return result


def lightning_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a file for Lightning's verbs, code of the user's own spelled as by `with_classes_spelled`.

    Arguments of classes that are not this package's stay as they are: a `loss` of theirs may be the path of a class.
    """

    def spelled(value: Any, name: str, ours: bool) -> Any:
        if isinstance(value, list):
            return [spelled(part, name, ours) for part in value]
        if not isinstance(value, Mapping):
            return _of_lightning(name, value) if isinstance(value, str) and (ours or _DOT.fullmatch(name)) else value
        kind = _of_lightning(f"{name}.class_path", str(value.get("class_path", "")))
        within = kind in _TAKE_NAMES or kind.startswith("rebasin_lt.")
        return {
            key: spelled(part, f"{name}.{key}".lstrip("."), within if key == "init_args" else ours)
            for key, part in value.items()
        }

    result: dict[str, Any] = spelled(settings, "", ours=False)
    return result


def listed_settings(settings: Mapping[str, Any], of: Mapping[str, object]) -> dict[str, Any]:
    """The settings in a file with every text where the types of the options, `of`, say a list as that list: a line
    of a command line's words."""

    def listed(value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return {key: listed(part, f"{name}.{key}".lstrip(".")) for key, part in value.items()}
        if isinstance(value, str) and is_list(type_of(name, of)):
            with suppress(ValueError):  # what is no list is left to the parser
                return json.loads(as_list(shlex.split(value)))
        return value

    result: dict[str, Any] = listed(settings, "")
    return result


def with_names_spelled(settings: Any) -> Any:
    """The settings of a command that is no Lightning's, parsed: code of the user's own as `package.module:name`, the
    package's datasets by their names in small letters."""
    return _renamed(settings, "")


def _renamed(value: Any, name: str) -> Any:
    if hasattr(value, "as_dict"):  # a parser's namespace, whose keys are dotted
        value = value.clone()
        for key, part in list(value.items()):
            value[key] = _renamed(part, f"{name}.{key}".lstrip("."))
        return value
    if isinstance(value, Mapping):
        return {key: _renamed(part, f"{name}.{key}".lstrip(".")) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_renamed(part, name) for part in value)
    return _by_name(name, value) if isinstance(value, str) else value


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


def _of_lightning(name: str, value: str) -> str:
    if not _DOT.fullmatch(name):
        return _with_colon(value) if _COLON.fullmatch(name) else value
    if name in {"data", "data.class_path"} and (own := _DATASETS.get(_plain_name(value))):
        return own[1]
    return re.sub(r"^([A-Za-z_][\w.]*):([A-Za-z_]\w*)$", r"\1.\2", value)


def _by_name(name: str, value: str) -> str:
    if name == "data" or name.endswith("data.name"):
        value = _DATASETS.get(_plain_name(value), (value,))[0]
    return _with_colon(value) if _COLON.fullmatch(name) else value


def _with_colon(value: str) -> str:
    """`package.module.name` as `package.module:name`."""
    dotted = re.fullmatch(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\.([A-Za-z_]\w*)", value)
    return f"{dotted[1]}:{dotted[2]}" if dotted and not Path(value).exists() else value


def _plain_name(name: str) -> str:
    return name.lower().replace("_", "")


_DATASETS = {
    _plain_name(name): (name, kind)
    for name, kind in {
        **{"digits": "Digits", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"},
        **{"svhn": "SVHN", "image_folder": "ImageFolder", "imagenet": "ImageNet"},
    }.items()
}
"""Name and class of each dataset, by its name in small letters; a test compares with their registry."""

_TAKE_NAMES = {"Classifier", "MaskedClassifier", "IterativeMagnitudePruning"}
"""Classes of this package that are asked for by their name alone, and take code by name."""


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
