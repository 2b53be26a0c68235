"""Runs `rebasin-lt` in children forked from a process that has everything imported, and stops them at exact points.

`Driver` starts this file as a program of one thread, which reads a job a line and answers with the children's exit
codes. A job names a point, what comes there (SIGKILL, or a signal), and the ranks that it comes to.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from torch import nn


def network(num_classes: int) -> nn.Module:
    """Dropout draws random numbers in every step, batch norm has buffers."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(384, num_classes),
    )


class Driver:
    """A context in which `run` costs a fork instead of the imports."""

    def __enter__(self) -> Driver:
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.stdin.write("\n")  # an end of file would wait for every process that was forked meanwhile
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        finally:
            self.process.kill()
            self.process.stdout.close()

    def run(self, arguments: list[str], folder: Path, ranks: int = 1, **point: Any) -> list[int]:
        """Exit codes by rank, negative for a signal; output goes to `folder/output-RANK.txt`."""
        job = {"arguments": arguments, "folder": str(folder), "ranks": ranks, "point": point}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def arm(
    at: str = "", action: str = "KILL", number: int = 0, file: str = "", on_ranks: tuple[int, ...] = (0, 1)
) -> None:
    """Patch this process so that the signal comes at a point: the `number`-th time that `at` is reached.

    `step` and `step end` count batches of the whole run from 0; `half`, `whole` and `renamed` are moments in the
    writing of a file whose name ends with `file`; other names are functions, as `package.module:Class.function`.
    """
    if not at or int(os.environ.get("LOCAL_RANK", 0)) not in on_ranks:
        return
    if at in {"half", "whole", "renamed"}:
        _arm_write(at, action, number, file)
    elif at in {"step", "step end"}:
        hook = "on_train_batch_end" if at == "step end" else "on_train_batch_start"
        _before(
            "rebasin_lt.lit.callbacks.step_seed:StepSeed" if at == "step" else _LAST_CALLBACK,
            hook,
            lambda _, trainer, *__: trainer.fit_loop.total_batch_idx == number and _act(action),
        )
    else:
        calls = iter(range(10**6))
        place, _, name = at.rpartition(".")
        _before(place, name, lambda *_: next(calls) == number and _act(action))


_LAST_CALLBACK = "rebasin_lt.lit.callbacks.resume_point:ResumePoint"


def _arm_write(at: str, action: str, number: int, file: str) -> None:
    calls = iter(range(10**6))
    rename = os.replace

    def replace(source: Any, target: Any) -> None:
        due = str(target).endswith(file) and next(calls) == number
        if due and at == "half":
            os.truncate(source, os.path.getsize(source) // 2)
        if due and at != "renamed":
            _act(action)
        rename(source, target)
        if due and at == "renamed":
            _act(action)

    os.replace = replace


def _before(place: str, name: str, act: Any) -> None:
    """Call `act` before the function `name` of a class, given as `module:Class`."""
    module, _, kind = place.partition(":")
    __import__(module)
    owner = getattr(sys.modules[module], kind)
    original = getattr(owner, name)

    def patched(*arguments: Any, **settings: Any) -> Any:
        act(*arguments)
        return original(*arguments, **settings)

    setattr(owner, name, patched)


def _act(action: str) -> None:
    """Send the signal to this process; but for SIGKILL first to its workers, as a cluster does, not as their parent."""
    workers = [str(worker.pid) for worker in multiprocessing.active_children()]
    if workers and action != "KILL":
        subprocess.run(["kill", f"-{action}", *workers], check=True)
    os.kill(os.getpid(), getattr(signal, f"SIG{action}"))


def _child(job: dict[str, Any], rank: int, port: int) -> None:
    from rebasin_lt.cli import main

    output = os.open(f"{job['folder']}/output-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(job["folder"])
    if job["ranks"] > 1:
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(job["ranks"])}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= job["point"].pop("environment", {})
    ask_every = job["point"].pop("ask_every", None)
    if ask_every:
        from rebasin_lt.lit.callbacks import resume_point

        resume_point._ASK_EVERY = ask_every
    arm(**job["point"])
    sys.argv = ["rebasin-lt"]
    os._exit(main(job["arguments"]))


def _serve() -> None:
    import torch

    import rebasin_lt.commands.lightning_verbs  # noqa: F401 - this is what the children need not do again
    from rebasin_lt.lit.data.image_folder import ImageFolder

    ImageFolder().transforms()
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        if not line.strip():
            break
        job = json.loads(line)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(job["ranks"]):
            pid = os.fork()
            if pid == 0:
                _child(job, rank, port)
            children.append(pid)
        answers.write(json.dumps(_wait(children)) + "\n")
        answers.flush()


def _wait(children: list[int], seconds: float = 120) -> list[int]:
    """Exit codes. When one was killed the others follow: what is left of a job waits for it in vain."""
    codes: dict[int, int] = {}
    end = time.monotonic() + seconds
    while len(codes) < len(children):
        for pid in set(children) - set(codes):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if time.monotonic() > end or -signal.SIGKILL in codes.values():
            for pid in set(children) - set(codes):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return [codes[pid] for pid in children]


if __name__ == "__main__":
    _serve()
