"""Loggers that a recipe names, as LightningCLI writes them: `{class_path: CSVLogger, init_args: {name: trial}}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.loggers import Logger

from rebasin_lt.errors import InputError
from rebasin_lt.settings.checked import check_settings
from rebasin_lt.settings.choices import check_names, near
from rebasin_lt.settings.signatures import arguments, written_class
from rebasin_lt.settings.user_code import import_named

WHERE = "recipe.trainer.logger"


def check_loggers(setting: object) -> None:
    """Refuse loggers that are not there, and settings that they do not take. Raises InputError."""
    for kind, settings in _named(setting):
        check_settings(f"{WHERE}.init_args", kind, settings)


def build_loggers(setting: object, folder: Path) -> list[Logger]:
    """The loggers of one stage, which write into its `folder` unless they are told where."""
    built = []
    for kind, settings in _named(setting):
        place = {"save_dir": str(folder)} if "save_dir" in arguments(kind) else {}
        built.append(kind(**{**place, **settings}))
    return built


def _named(setting: object) -> Iterator[tuple[type[Logger], dict[str, Any]]]:
    """Class and settings of each; a truth value, which Lightning understands, names none."""
    if setting is None or isinstance(setting, bool):
        return
    for each in setting if isinstance(setting, list | tuple) else [setting]:
        each = written_class(each)
        if not isinstance(each, Mapping) or not isinstance(each.get("class_path"), str):
            raise InputError(f"{WHERE} is {each!r}, expected {{class_path: CSVLogger, init_args: {{…}}}}, or several")
        check_names(WHERE, each, ("class_path", "init_args"))
        yield _logger_class(each["class_path"]), dict(each.get("init_args") or {})


def _logger_class(path: str) -> type[Logger]:
    """A logger of Lightning's by its name, or any other by `package.module.Class`."""
    module, _, name = path.replace(":", ".").rpartition(".")
    kind = getattr(loggers, path, None) if not module else import_named(WHERE, f"{module}:{name}")
    if not (isinstance(kind, type) and issubclass(kind, Logger)):
        hint = "" if module else near(path, loggers.__all__)
        raise InputError(
            f"{WHERE} is {path!r}{hint}, expected one of {', '.join(loggers.__all__)} or package.module.Class"
        )
    return kind
