"""Loggers that settings name, as LightningCLI takes them: `CSVLogger`, or `{class_path: …, init_args: …}`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.loggers import Logger

from rebasin_lt.errors import InputError
from rebasin_lt.lit.loggers import NamedLogger
from rebasin_lt.settings.checked import check_settings
from rebasin_lt.settings.choices import check_names, near
from rebasin_lt.settings.signatures import written_class
from rebasin_lt.settings.user_code import import_named

WHERE = "recipe.trainer.logger"
_PACKAGES = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow", "CometLogger": "comet-ml", "LitLogger": "litlogger"}
_PARTS = ("class_path", "init_args", "dict_kwargs")


def check_loggers(setting: object) -> None:
    """Refuse loggers that are not there, and settings that they do not take. Raises InputError."""
    for kind, settings in named_loggers(setting):
        check_settings(f"{WHERE}.init_args", kind, settings)


def named_loggers(setting: object, where: str = WHERE) -> list[NamedLogger]:
    """Class and settings of each; a truth value, which Lightning understands, names none.

    Raises InputError for a class that is no logger, or whose package is not installed.
    """
    if setting is None or isinstance(setting, bool):
        return []
    return [_named(each, where) for each in (setting if isinstance(setting, list | tuple) else [setting])]


def _named(setting: object, where: str) -> NamedLogger:
    each: Any = {"class_path": setting} if isinstance(setting, str) else written_class(setting)
    if not isinstance(each, Mapping) or not isinstance(each.get("class_path"), str):
        raise InputError(f"{where} is {each!r}, expected {{class_path: CSVLogger, init_args: {{…}}}}, or several")
    check_names(where, each, _PARTS)
    settings: dict[str, Any] = {**(each.get("init_args") or {}), **(each.get("dict_kwargs") or {})}
    return _logger_class(each["class_path"], where), settings


def _logger_class(path: str, where: str) -> type[Logger]:
    """A logger of Lightning's by its name, or any other by `package.module.Class`."""
    module, _, name = path.replace(":", ".").rpartition(".")
    kind = getattr(loggers, path, None) if not module else import_named(where, f"{module}:{name}")
    if not (isinstance(kind, type) and issubclass(kind, Logger)):
        hint = "" if module else near(path, loggers.__all__)
        raise InputError(
            f"{where} is {path!r}{hint}, expected one of {', '.join(loggers.__all__)} or package.module.Class"
        )
    for base in kind.__mro__:
        package = _PACKAGES.get(base.__name__)
        if package and find_spec(package.replace("-", "_")) is None:
            raise InputError(f"{where} is {kind.__name__}, which needs a package: pip install {package}")
    return kind
