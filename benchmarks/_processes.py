"""Processes of their own for sides that are compared, which end with the one that asks them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from rebasin_lt.process.host_memory import keep_freed_memory


@contextmanager
def processes(names: Iterable[str], plain: str = "") -> Iterator[dict[str, Executor]]:
    """A process by name; all but the `plain` one keep the memory that they free, as those of the command line do."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), _begin, [name != plain]))
            for name in names
        }


def measured_apart(module: str, name: str) -> dict[str, Any]:
    """The record that `python -m MODULE --one NAME` prints last, measured in a process of its own, on one thread.

    Of one that fails, the last line of its errors, under `failed`: so one network takes no other with it.
    """
    command, environment = [sys.executable, "-m", module, "--one", name], {**os.environ, "OMP_NUM_THREADS": "1"}
    place = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=place, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def _begin(keeps_memory: bool) -> None:
    if keeps_memory:
        keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's process waits for work for ever if its parent is killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
