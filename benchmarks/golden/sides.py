"""One side of a comparison: a copy of the package, and what its commands make of the trajectories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.golden.readings import FAILED, Readings, read
from benchmarks.golden.spellings import Dialect
from benchmarks.golden.trajectories import Step, Trajectory

ROOT = Path(__file__).parents[2]
_WRONG_USAGE = 2
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "Agg"}


class GoldenError(Exception):
    """Nothing can be compared: there is no such commit, or no process that runs its commands."""


def compute(
    source: Path,
    trajectories: Sequence[Trajectory],
    environment: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Readings]:
    """The readings of every trajectory, by its name, as the package in `source` computes it on one thread.

    `environment` is added to that of its processes. Of a trajectory with a command that fails, the one reading is
    FAILED. Raises GoldenError where no command can be run.
    """
    readings = {}
    with tempfile.TemporaryDirectory(prefix="golden-") as folder, _Worker(source, environment or {}) as worker:
        side = _Side(worker, Path(folder))
        for trajectory in trajectories:
            tell(trajectory.name)
            readings[trajectory.name] = side.follow(trajectory)
    return readings


@contextmanager
def checkout(commit: str, root: Path = ROOT) -> Iterator[Path]:
    """A folder with the files of a commit, removed afterwards. Raises GoldenError where git has no such commit."""
    with tempfile.TemporaryDirectory(prefix="golden-commit-") as folder:
        place = Path(folder) / "worktree"
        _git(root, "worktree", "add", "--detach", "--quiet", str(place), commit)
        try:
            yield place
        finally:
            _git(root, "worktree", "remove", "--force", str(place))


def name_of(commit: str, root: Path = ROOT) -> str:
    """A commit's short hash. Raises GoldenError where git has no such commit."""
    return _git(root, "rev-parse", "--short", "--verify", f"{commit}^{{commit}}")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise GoldenError(f"git {' '.join(arguments)}: {done.stderr.strip() or 'failed'}")
    return done.stdout.strip()


class _Worker:
    """A process that runs commands of the package in `source`; see worker.py."""

    def __init__(self, source: Path, environment: Mapping[str, str]) -> None:
        self.source = source.resolve()
        self._environment = {**os.environ, **_ONE_THREAD, **environment, "PYTHONPATH": str(self.source)}

    def __enter__(self) -> _Worker:
        command = [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
        )
        place = self._answer()
        if place is None or not Path(str(place)).is_relative_to(self.source):
            self.__exit__()
            raise GoldenError(f"{self.source}: Python imports {place} instead of its rebasin_lt")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # the end of its input is its end

    def run(self, folder: Path, arguments: Sequence[str], log: Path) -> int:
        """The exit code of one command; what it prints goes into `log`."""
        assert self._process.stdin is not None
        request = {"folder": str(folder), "arguments": list(arguments), "log": str(log)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code = self._answer()
        if not isinstance(code, int):
            raise GoldenError(f"{self.source}: the process that runs its commands has ended")
        return code

    def _answer(self) -> object:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None


class _Side:
    """The folder in which one side's trajectories lie."""

    def __init__(self, worker: _Worker, folder: Path) -> None:
        self.folder = folder
        self._worker, self._dialect = worker, Dialect()
        for name in ("settings", "logs"):
            (folder / name).mkdir()

    def follow(self, trajectory: Trajectory) -> Readings:
        """Take its steps, and read what came out."""
        for number, step in enumerate(trajectory.steps):
            failure = self._take(step, f"{trajectory.name}.{number}-{step.command}")
            if failure:
                return {FAILED: failure}
        return read(self.folder / trajectory.name, self.folder / "logs")

    def _take(self, step: Step, name: str) -> str | None:
        """Run the command; where it refuses a word that has other spellings, again with the next.

        Returns what it said at last, if it failed.
        """
        settings, log = self.folder / "settings" / f"{name}.yaml", self.folder / "logs" / f"{name}.log"
        while True:
            settings.write_text(json.dumps(self._dialect.spell(step.command, step.settings)))
            given = ["--config", f"settings/{settings.name}"] if step.settings else []
            command = str(self._dialect.spell(step.command, step.command))
            code = self._worker.run(self.folder, [command, *step.positional, *given], log)
            if not code:
                return None
            said = log.read_text(errors="replace").strip()
            if code != _WRONG_USAGE or not self._dialect.learn(step.command, said):
                return f"{step.command} ended with {code}: {said.splitlines()[-1] if said else ''}"
