"""How a study's stages become jobs in SLURM."""

from __future__ import annotations

from dataclasses import dataclass

from rebasin_lt.errors import InputError


@dataclass(frozen=True)
class Slurm:
    """Options of `rebasin-lt study --launcher slurm`.

    Args:
        options: of sbatch, such as --partition=gpu, --gpus-per-node=1, --time=04:00:00
        max_running: tasks of an array that may run at the same time
        stages_per_task: stages one after the other in a task, for stages that are shorter than a place in the queue
        setup: shell commands before each task, such as `module load cuda`
        poll_seconds: between two looks at the queue
    """

    options: tuple[str, ...] = ()
    max_running: int = 16
    stages_per_task: int = 1
    setup: str = ""
    poll_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_running", "stages_per_task", "poll_seconds"):
            if not getattr(self, name) > 0:
                raise InputError(f"slurm.{name} is {getattr(self, name)}, expected a positive number")
        for option in self.options:
            if not option.startswith("-"):
                raise InputError(f"slurm.options holds {option!r}, expected options of sbatch such as --time=04:00:00")
