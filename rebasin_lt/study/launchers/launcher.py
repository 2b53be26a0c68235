"""What a study is told of where its stages run, and the record of each way to run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rebasin_lt.errors import check_least
from rebasin_lt.study.launchers.slurm_options import Slurm
from rebasin_lt.study.state import State


@dataclass(frozen=True)
class Launcher:
    """Where the stages of a study run, and how.

    Args:
        launcher: what runs them, a name of `LAUNCHERS`: local, processes on this machine, or slurm, jobs in SLURM
        workers: processes on this machine; one per GPU or core if not given
        workers_per_gpu: several for networks that leave a GPU idle
        threads: of each worker or task; results are equal to the last bit only for equal numbers
        slurm: how jobs are submitted
    """

    launcher: str = "local"
    workers: int | None = None
    workers_per_gpu: int = 1
    threads: int = 1
    slurm: Slurm = field(default_factory=Slurm)

    def __post_init__(self) -> None:
        for name in ("workers", "workers_per_gpu", "threads"):
            check_least(f"--{name.replace('_', '-')}", getattr(self, name), 1)


@dataclass(frozen=True)
class LauncherKind:
    """All there is to know of a way to run stages. One that is in a file of `study/launchers` is known everywhere.

    Args:
        name: what `--launcher` calls it
        run: does what is ready in a study's folder until nothing is left, and shows after each change how it stands
        count: how many stages run at the same time
        check: raises InputError where nothing can be launched from here
        here: whether stages run on this machine, whose devices a study may ask for
    """

    name: str
    run: Callable[[Path, State, Launcher, Callable[[State], None]], None]
    count: Callable[[Launcher], int]
    check: Callable[[], None] = lambda: None
    here: bool = False
