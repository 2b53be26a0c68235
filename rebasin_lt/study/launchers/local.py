"""The stages of a study by processes on this machine, each as soon as what it needs is complete."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rebasin_lt.errors import Preempted
from rebasin_lt.process.stop_request import stop_request
from rebasin_lt.study.launchers.launcher import Launcher, LauncherKind
from rebasin_lt.study.launchers.worker import ANSWERS, THREADS
from rebasin_lt.study.state import State

_GRACE = 60.0  # seconds for workers to write where they are
_LOOK = 0.5  # seconds between two looks at signals


def run_local(folder: Path, state: State, launcher: Launcher, show: Callable[[State], None]) -> None:
    """Do what `state` has ready, by one worker per place, until nothing is left to do.

    A stage that fails stops only what needs it. Raises Preempted after SIGTERM or SIGUSR1, and KeyboardInterrupt;
    either way the workers are given a minute to write where they are.
    """
    with stop_request, _Workers(folder, _places_of(launcher)) as workers:
        while not state.is_over:
            for stage in state.ready():
                if not workers.take(stage.path):
                    break
                state.running[stage.path] = time.monotonic()
            show(state)
            for path, failure in workers.answers():
                state.seconds[path] = time.monotonic() - state.running.pop(path)
                if failure is None:
                    state.done.add(path)
                else:
                    state.failed[path] = failure
            if stop_request.signal is not None:
                raise Preempted(f"stopped by {stop_request.signal}; the same command goes on from here")
        show(state)


def _places_of(launcher: Launcher) -> list[dict[str, str]]:
    return places(launcher.workers, launcher.workers_per_gpu, launcher.threads)


LOCAL = LauncherKind("local", run_local, count=lambda launcher: len(_places_of(launcher)), here=True)


class _Worker:
    """A process, what it is doing, and how it answers."""

    def __init__(self, folder: Path, place: Mapping[str, str]) -> None:
        self.stage: str | None = None
        self.answers, write = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rebasin_lt.study.launchers.worker", str(folder)],
                stdin=subprocess.PIPE,
                env={**os.environ, **place, ANSWERS: str(write)},
                pass_fds=(write,),
            )
        finally:
            os.close(write)

    def ask(self, path: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((json.dumps({"stage": path}) + "\n").encode())
        self.process.stdin.flush()
        self.stage = path

    def close(self) -> None:
        """End its input, which asks it to stop."""
        assert self.process.stdin is not None
        self.process.stdin.close()


class _Workers:
    """As many workers as places; one that dies is replaced when it is needed."""

    def __init__(self, folder: Path, places: Sequence[Mapping[str, str]]) -> None:
        self.folder, self.places = folder, places
        self.workers: list[_Worker | None] = [None for _ in places]
        self.selector = selectors.DefaultSelector()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        there = [worker for worker in self.workers if worker is not None]
        for worker in there:
            worker.close()
        deadline = time.monotonic() + _GRACE
        for worker in there:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C
                worker.process.kill()
                worker.process.wait()
            os.close(worker.answers)
        self.selector.close()

    def take(self, path: str) -> bool:
        """Give a stage to a worker that is free. Returns False if none is."""
        for index, worker in enumerate(self.workers):
            if worker is None:
                worker = self.workers[index] = _Worker(self.folder, self.places[index])
                self.selector.register(worker.answers, selectors.EVENT_READ, index)
            if worker.stage is None:
                worker.ask(path)
                return True
        return False

    def answers(self) -> list[tuple[str, str | None]]:
        """Stages that ended, with the reason if they failed; waits a moment for the first."""
        ended = []
        for key, _ in self.selector.select(_LOOK):
            worker = self.workers[key.data]
            assert worker is not None
            text = _read_line(worker.answers)
            if text:
                answer = json.loads(text)
                ended.append((answer["stage"], None if answer["state"] == "done" else answer["reason"]))
                worker.stage = None
                continue
            if worker.stage is not None:
                ended.append((worker.stage, _death(worker.process.wait())))
            self._forget(key.data, worker)
        return ended

    def _forget(self, index: int, worker: _Worker) -> None:
        self.selector.unregister(worker.answers)
        os.close(worker.answers)
        worker.process.wait()
        self.workers[index] = None


def _read_line(descriptor: int) -> str:
    """One answer; empty where its writer is gone."""
    parts = bytearray()
    while not parts.endswith(b"\n"):
        part = os.read(descriptor, 1)
        if not part:
            return ""
        parts += part
    return parts.decode()


def _death(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    hint = ", as it does when memory runs out" if code == -signal.SIGKILL else ""
    return f"its process was killed by {signal.Signals(-code).name}{hint}"


def places(workers: int | None, workers_per_gpu: int, threads: int) -> list[dict[str, str]]:
    """The environment of each worker: which GPU is its own, and how many threads it uses.

    Without `workers` there are `workers_per_gpu` for each GPU, or, where there is none, one for each core.
    """
    import torch

    gpus = _gpus() if torch.cuda.is_available() else []
    count = workers or (len(gpus) * workers_per_gpu if gpus else len(os.sched_getaffinity(0)))
    own = {name: str(threads) for name in THREADS}
    return [{**own, **({"CUDA_VISIBLE_DEVICES": gpus[k % len(gpus)]} if gpus else {})} for k in range(count)]


def _gpus() -> list[str]:
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]
