"""The loggers of a run: made when its training begins, and in every later job the same again."""

from __future__ import annotations

import csv
import re
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.settings.signatures import arguments
from rebasin_lt.storage.files import json_in, write_json

LOGGERS_FILE = "loggers.json"
"""Which of their runs the loggers of a folder write to: a list of `{"logger": class, "version": text or number}`."""

NamedLogger = tuple[type[Logger], Mapping[str, Any]]
"""The class of a logger, and the arguments that the user gave it."""

_VERSIONS = ("run_id", "experiment_key", "version")
"""What loggers call the argument that `Logger.version` comes back by: MLflow, Comet, all others."""

_VERSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A version becomes a part of a path, or of an address."""


class NotYet(DummyLogger):
    """Stands where a logger will be, until training begins: what it is told is lost, and nothing is opened."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self._folder = str(folder)

    @property
    def save_dir(self) -> str:
        return self._folder


def default_logger(folder: str | Path) -> NamedLogger:
    """TensorBoard's events, straight in the run's folder."""
    return TensorBoardLogger, {"save_dir": str(folder), "name": "", "version": "", "default_hp_metric": False}


def open_loggers(
    named: Sequence[NamedLogger], folder: str | Path, step: int | None = None, writes: bool = True
) -> list[Logger]:
    """The loggers of the run in `folder`, open, each in the run of its own that it had in an earlier job.

    They write into `folder`, or the folder in it that their class names, unless their settings say where. With `step`,
    the number of optimiser steps that training goes on after, what an earlier job wrote of later steps is dropped from
    a CSVLogger's file and hidden by TensorBoard; elsewhere it stands there twice. A process that does not write
    (`writes`) opens nothing.

    Raises InputError for a logger whose package is missing, BrokenFileError for a damaged `loggers.json`.
    """
    known = _known_versions(Path(folder) / LOGGERS_FILE, named)
    loggers = [_made(*each, Path(folder), version, step) for each, version in zip(named, known, strict=True)]
    if not writes:
        return loggers
    versions = [None if _has_version(*each) else logger.version for each, logger in zip(named, loggers, strict=True)]
    if any(version is not None for version in versions) and versions != known:
        entries = [
            {"logger": kind.__name__, "version": version} for (kind, _), version in zip(named, versions, strict=True)
        ]
        write_json(Path(folder) / LOGGERS_FILE, entries)
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            _go_on_with_csv(logger, step)
        else:
            getattr(logger, "experiment", None)  # opens it
    return loggers


def close_loggers(loggers: Sequence[Logger]) -> None:
    """End the loggers' own runs where another may follow in this process, which Lightning leaves to its end (W&B)."""
    for logger in loggers:
        finish = getattr(getattr(logger, "experiment", None), "finish", None)
        if callable(finish) and not isinstance(logger, DummyLogger):
            finish()


def _made(
    kind: type[Logger], settings: Mapping[str, Any], folder: Path, version: str | int | None, step: int | None
) -> Logger:
    takes = arguments(kind)
    own: dict[str, Any] = {}
    if "save_dir" in takes:
        usual = takes["save_dir"].default  # of W&B `.`, of MLflow `./mlruns`
        own["save_dir"] = str(folder / usual if isinstance(usual, str) else folder)
    if not _has_version(kind, settings):
        if version is None and "id" in takes:
            version = uuid.uuid4().hex[:8]  # W&B makes one up as late as when it has begun the run
        own |= {name: version for name in _VERSIONS if name in takes and version is not None}
    if issubclass(kind, TensorBoardLogger) and step is not None:
        own["purge_step"] = step
    try:
        return kind(**{
            **own,
            **{name: value for name, value in settings.items() if not (value is None and name in own)},
        })
    except ModuleNotFoundError as error:
        raise InputError(f"the logger {kind.__name__} needs a package that is not installed: {error}") from error


def _has_version(kind: type[Logger], settings: Mapping[str, Any]) -> bool:
    """True if the user says which run of the logger's it is, or nobody can."""
    names = [name for name in (*_VERSIONS, "id") if name in arguments(kind)]
    return not names or any(settings.get(name) is not None for name in names)


def _known_versions(path: Path, named: Sequence[NamedLogger]) -> list[str | int | None]:
    if not path.exists():
        return [None] * len(named)
    entries = json_in(path) if path.is_file() and not path.is_symlink() else None
    classes = [entry.get("logger") if isinstance(entry, dict) else None for entry in entries or []]
    if not isinstance(entries, list) or classes != [kind.__name__ for kind, _ in named]:
        expected = ", ".join(kind.__name__ for kind, _ in named)
        raise BrokenFileError(f"{path} is damaged: it names no versions of {expected}; remove it, and they begin anew")
    versions = [entry.get("version") for entry in entries]
    for version in versions:
        if version is not None and not (type(version) in (int, str) and _VERSION.fullmatch(str(version))):
            raise BrokenFileError(f"{path} is damaged: it holds the version {version!r}; remove it")
    return versions


def _go_on_with_csv(logger: CSVLogger, step: int | None) -> None:
    """Open the logger with the rows that its file has of steps before `step`; of all steps, if that is None.

    Lightning's writer deletes the file. It is put aside until the rows stand in a new one.
    """
    path = Path(logger.log_dir) / "metrics.csv"
    aside = path.with_name("metrics.csv.before")
    if path.is_file() and not aside.exists():
        path.replace(aside)
    kept = [row for row in _rows(aside) if step is None or int(row["step"]) < step]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")
        writer = logger.experiment
    writer.metrics.extend(kept)
    writer.save()
    aside.unlink(missing_ok=True)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file of metrics, but for one that a crash cut off; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{name: text for name, text in row.items() if name and text} for row in csv.DictReader(file)]
    return [row for row in rows if row.get("step", "").isdigit()]
