"""Settings of `fit | validate | test | predict`: refused before anything is built, and what they say of a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rebasin_lt.lit.data
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.loggers import named_loggers
from rebasin_lt.lit.callbacks.resume_point import LAST
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.torchvision_data import TorchvisionData
from rebasin_lt.lit.loggers import NamedLogger, default_logger
from rebasin_lt.lit.trainer import check_strategy
from rebasin_lt.settings.checked import check_not_null
from rebasin_lt.storage.run_folder import CONFIG, read_config

_MAY_DIFFER = (
    "trainer.default_root_dir",  # a run's folder may be named in another way, or have moved
    "trainer.max_time",  # of each job
    "resume.every_steps",
    "resume.every_minutes",
    "resume.every_epoch",
)
_LARGEST_SEED = 2**32 - 1


def may_differ(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings that may differ between a run and its resume, since the run's numbers do not depend on them."""
    class_path = settings["data"]["class_path"] if settings.get("data") else ""
    package, _, name = class_path.partition(".")
    kind = vars(rebasin_lt.lit.data).get(name.rpartition(".")[2]) if package == "rebasin_lt" else None
    ours = isinstance(kind, type) and issubclass(kind, ImageData)  # their loaders share images by themselves
    in_memory = isinstance(kind, type) and issubclass(kind, TorchvisionData)
    samplers = ("trainer.use_distributed_sampler",) if ours or _is_one_process(settings.get("trainer") or {}) else ()
    return (*_MAY_DIFFER, *samplers, *(("data.init_args.resident",) if in_memory else ()))


def _is_one_process(trainer: Mapping[str, Any]) -> bool:
    devices, on_cpu = trainer.get("devices"), trainer.get("accelerator") == "cpu"
    return trainer.get("num_nodes", 1) == 1 and (devices in (1, "1") or (devices == "auto" and on_cpu))


def hyperparameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that one compares runs by. What may differ in a resume is none of it."""
    trainer = {name: settings["trainer"].get(name) for name in ("max_epochs", "precision", "callbacks")}
    data, free = dict(settings.get("data") or {}), may_differ(settings)
    data["init_args"] = {k: v for k, v in (data.get("init_args") or {}).items() if f"data.init_args.{k}" not in free}
    return {**{name: settings.get(name) for name in ("seed_everything", "model")}, "data": data, **trainer}


def check_seed(seed: object) -> None:
    """Refuse a seed that generators do not take. Raises InputError."""
    if not isinstance(seed, bool) and isinstance(seed, int) and not 0 <= seed <= _LARGEST_SEED:
        raise InputError(f"seed_everything is {seed}, expected 0 to {_LARGEST_SEED}")


def check_values(settings: Mapping[str, Any]) -> None:
    """Refuse what a parser lets pass: null for numbers, and a strategy that splits weights. Raises InputError."""
    check_strategy(settings["trainer"].get("strategy"), "trainer.strategy")
    callbacks = settings["trainer"].get("callbacks") or []
    places = {"model": settings.get("model"), "data": settings.get("data")}
    places |= {f"trainer.callbacks.{index}": each for index, each in enumerate(callbacks)}
    for where, written in places.items():
        if isinstance(written, Mapping) and isinstance(written.get("class_path"), str):
            module, _, name = written["class_path"].rpartition(".")
            kind = getattr(sys.modules.get(module), name, None)
            if isinstance(kind, type):
                check_not_null(where, kind, written.get("init_args") or {})


def loggers_of(settings: Any, written: Path) -> list[NamedLogger]:
    """The loggers that the trainer's settings name; files below `written`, the run's folder as it was, lie in that of
    today. Raises as `named_loggers`."""
    if settings.logger is None or settings.logger is True:
        return [default_logger(settings.default_root_dir)]
    found = []
    for kind, given in named_loggers(settings.logger, "trainer.logger"):
        place = Path(str(given.get("save_dir", "")))
        moved = written != Path(settings.default_root_dir) and place.is_relative_to(written)
        now = Path(settings.default_root_dir) / place.relative_to(written) if moved else None
        found.append((kind, {**given, "save_dir": str(now)} if now else given))
    return found


def evaluated_folder(folder: Path, configs: object) -> Path:
    """The folder of the run that is evaluated: where its own `config.yaml` lies, if that is what names `folder`.

    A run's configuration says its folder as it was written, which is another place from another working directory, and
    a former one where the folder moved.
    """
    for given in configs if isinstance(configs, list) else []:
        path = Path(str(given))
        if path.name != CONFIG or not (path.parent / LAST).is_file():
            continue
        if str(folder) == str((read_config(path).get("trainer") or {}).get("default_root_dir")):
            return path.parent
    return folder
