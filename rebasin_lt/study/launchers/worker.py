"""A process that does the stages of a study that it is told of: `python -m rebasin_lt.study.launchers.worker DIR`.

It reads one JSON object {"stage": path} per line from standard input, and answers each with one on the descriptor
given in `REBASIN_LT_ANSWERS`; what a stage prints goes into its log. When its input ends in the middle of a stage,
whoever asked is gone: the stage is asked to stop, which training does without losing anything.
"""

from __future__ import annotations

import signal
import sys

if __name__ == "__main__":  # before the other imports; training listens to both
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it reaches the launcher, which ends the input

import gc
import json
import os
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rebasin_lt.errors import InputError, Preempted, RebasinError, out_of_memory
from rebasin_lt.process.host_memory import keep_freed_memory
from rebasin_lt.storage.files import no_link
from rebasin_lt.storage.links import check_inside

ANSWERS = "REBASIN_LT_ANSWERS"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Sums are rounded in another order by another number of threads, so whoever launches says how many."""


def log_file(folder: Path, stage: str) -> Path:
    """Where what a stage printed lies."""
    return folder / "logs" / f"{stage}.log"


def serve(folder: Path) -> None:
    """Do what is asked for until the input ends."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's business
    queue: SimpleQueue[str | None] = SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_read, args=(queue, busy), daemon=True).start()
    with os.fdopen(int(os.environ.pop(ANSWERS)), "w") as answers:
        while (path := queue.get()) is not None:
            busy.set()
            answer = {"stage": path, **do_stage(folder, path)}
            busy.clear()
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def _read(queue: SimpleQueue[str | None], busy: threading.Event) -> None:
    """Pass on what is asked for. The end of the input during a stage is a request to stop it."""
    for line in sys.stdin:
        queue.put(json.loads(line)["stage"])
    queue.put(None)
    if busy.is_set():
        os.kill(os.getpid(), signal.SIGTERM)


def do_stage(folder: Path, path: str, rank: int = 0) -> dict[str, Any]:
    """Run a stage with its output in its log, each rank its own; what became of it: state and, if not done, reason."""
    log = log_file(folder, path) if rank == 0 else log_file(folder, f"{path}.rank{rank}")
    try:
        check_inside(folder, str(log.relative_to(folder).parent))
        log.parent.mkdir(parents=True, exist_ok=True)
        file = open(log, "w", buffering=1, opener=no_link)  # noqa: SIM115 (closed below)
    except (OSError, InputError) as error:
        return {"state": "failed", "reason": _reason(error)}
    with file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            _run(folder, path)
        except Exception as error:
            return _failure(error)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):  # a full disk takes no log either
                    stream.flush()
            _give_back_memory()
    return {"state": "done"}


def _give_back_memory() -> None:
    """Let go of a GPU's memory that torch keeps of the stage: the next one of another worker may need it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()  # what trained holds on to itself
        torch.cuda.empty_cache()


def _run(folder: Path, path: str) -> None:
    import torch

    from rebasin_lt.lit.trainer import quiet
    from rebasin_lt.study.folder import read_study
    from rebasin_lt.study.plan import plan
    from rebasin_lt.study.work import run_stage

    quiet()
    torch.set_num_threads(int(os.environ.get(THREADS[0], "1")))
    study = read_study(folder)
    run_stage(study, plan(study)[path], folder)


def _failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, Preempted):
        return {"state": "stopped", "reason": str(error)}
    with suppress(OSError):
        traceback.print_exc()
    return {"state": "failed", "reason": _reason(error)}


def _reason(error: Exception) -> str:
    """In one line, why a stage failed."""
    reason = str(error) if isinstance(error, RebasinError) else f"{type(error).__name__}: {error}"
    reason = out_of_memory(error) or reason
    if isinstance(error, OSError):  # a full disk
        reason = f"{error.filename or 'file'}: {error.strerror or error}"
    return " ".join(reason.split())


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
