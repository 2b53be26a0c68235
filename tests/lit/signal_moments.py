"""Sends a signal to a run of the command line at a moment of its life, from its first import to its exit.

`moment` is a place where the process stops and waits for the signal: nothing depends on how fast a machine is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

SITE = '''
import atexit, os, sys, time

def _told():
    """The signal comes now: say so, and wait until it was sent."""
    with open("ready", "w"):
        pass
    while not os.path.exists("sent"):
        time.sleep(0.01)
    time.sleep(0.05)

class _AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["MOMENT"] and not os.path.exists("ready"):
            _told()

sys.meta_path.insert(0, _AtImport())
if os.environ["MOMENT"] == "exit":
    atexit.register(_told)
'''
"""A sitecustomize: what Python runs first in every process."""

FIT = ("fit", "--config", "run.yaml")


def configure(folder: Path) -> None:
    """A run of a second, and what it imports first."""
    settings = {
        "model": {"class_path": "Classifier", "init_args": {"arch": "mlp", "learning_rate": 0.1}},
        "data": {"class_path": "Digits", "init_args": {"batch_size": 50}},
        "trainer": {"accelerator": "cpu", "max_epochs": 2, "default_root_dir": "run", "logger": False},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITE)


def start(
    folder: Path, moment: str = "", arguments: tuple[str, ...] = FIT, module: str = "rebasin_lt"
) -> subprocess.Popen[bytes]:
    """The command line as its own process, as the installed program starts it; it stops at `moment`."""
    path = os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "MOMENT": moment, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *arguments]
    pipe = {"stdout": subprocess.DEVNULL, "stderr": (folder / "errors.txt").open("w")}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipe)


def signalled(
    folder: Path,
    moment: str,
    number: int = signal.SIGUSR1,
    arguments: tuple[str, ...] = FIT,
    module: str = "rebasin_lt",
) -> int:
    """The exit code of a run that gets the signal when it is at `moment`."""
    for name in ("ready", "sent"):
        (folder / name).unlink(missing_ok=True)
    process = start(folder, moment, arguments, module)
    while not (folder / "ready").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    (folder / "sent").touch()
    return process.wait(timeout=300)
