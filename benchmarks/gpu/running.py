"""Parts that run one after another within a time budget, each in a process of its own; what is done is on the disk."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from rebasin_lt.storage.files import write_json

MACHINE = "machine"
"""The part that says what the machine is."""
PATIENCE = 3.0
"""Seconds from telling a part to end until it is ended."""
TOY_SHARE = 0.25
"""Of the time that is left, for each part that measures nothing: on a CPU that is busy, too, each of them begins."""


@dataclass(frozen=True)
class Setting:
    """What every part is given: where to run, where to write, and until when, by `time.time()`."""

    device: str
    out: Path
    commit: str
    data: str | None = None
    toy: bool = False
    ends: float = float("inf")


class Part(NamedTuple):
    """Something to measure; `share` is that of the whole time which it may take, what it leaves is for those after."""

    name: str
    share: float
    work: Callable[[Setting], Any]


def run_parts(parts: Sequence[Part], setting: Setting, seconds: float) -> dict[str, str]:
    """Run them all, and write `NAME.json` and `NAME.log` as each ends; the last may take all the time that is left.

    Each is forked off from this process, which must have used no GPU: modules are imported once, and a part that fails,
    or spoils the GPU for its process, leaves the others alone. One whose time is up is told to end by SIGTERM, and then
    killed, with all that it started. Returns the outcomes, `done`, `failed` or `cut off`, by name.
    """
    setting.out.mkdir(parents=True, exist_ok=True)
    ends, outcomes = time.time() + seconds, {}
    for number, part in enumerate(parts, start=1):
        left = ends - time.time()
        limit = left if number == len(parts) else limit_of(part, left, seconds, setting.toy)
        outcomes[part.name] = _run(part, setting, limit) if limit > 0 else "no time left"
        print(f"{part.name}: {outcomes[part.name]}, {max(0.0, ends - time.time()):.0f} s left", flush=True)
    return outcomes


def limit_of(part: Part, left: float, seconds: float, toy: bool) -> float:
    """Seconds that a part may take, of those that are left of all `seconds`."""
    return TOY_SHARE * left if toy else min(left, part.share * seconds)


def _run(part: Part, setting: Setting, limit: float) -> str:
    began = time.time()
    given = Setting(**{**asdict(setting), "ends": began + limit})
    process = get_context("fork").Process(target=_work, args=(part, given))
    process.start()
    try:
        process.join(limit)
    except KeyboardInterrupt:  # else the interpreter waits for the part before it ends
        _end(process)
        raise
    if process.is_alive():
        _end(process)
        outcome = "cut off"
    else:
        outcome = "done" if process.exitcode == 0 else "failed"
    if outcome != "done":
        log = (setting.out / f"{part.name}.log").read_text(errors="replace").splitlines()[-20:]
        _write(part, setting, began, outcome, log=log)
    return outcome


def _work(part: Part, setting: Setting) -> None:
    """What the part's process does: it ends with the one that forked it, and all that it starts ends with it."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log = os.open(setting.out / f"{part.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    began, code = time.time(), 0
    try:
        _write(part, setting, began, "done", found=part.work(setting))
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing of the parent's, such as its handlers at exit, is this process's to do


def _write(part: Part, setting: Setting, began: float, outcome: str, **more: Any) -> None:
    about = {"part": part.name, "outcome": outcome, "device": _device_name(setting), "commit": setting.commit}
    times = {"began": round(began, 1), "seconds": round(time.time() - began, 2)}
    write_json(setting.out / f"{part.name}.json", {**about, **times, **more})


def _device_name(setting: Setting) -> str:
    """What the part `machine` found, if there was one: this process may not ask a GPU."""
    told = setting.out / f"{MACHINE}.json"
    found = json.loads(told.read_text()).get("found", {}) if told.is_file() else {}
    return str(found.get("device", setting.device))


def _end(process: BaseProcess) -> None:
    assert process.pid is not None
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            return
        process.join(PATIENCE)
    process.join()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)
