"""What options for SLURM are refused."""

from __future__ import annotations

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.study.launchers.slurm_options import Slurm


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_running": 0}, "slurm.max_running is 0, expected a positive number"),
        ({"stages_per_task": -1}, "slurm.stages_per_task is -1, expected a positive number"),
        ({"poll_seconds": 0.0}, "slurm.poll_seconds is 0.0, expected a positive number"),
        ({"poll_seconds": float("nan")}, "slurm.poll_seconds is nan, expected a positive number"),
        ({"options": ("-p", "gpu")}, "slurm.options holds 'gpu', expected options of sbatch such as --time=04:00:00"),
    ],
)
def test_options_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        Slurm(**settings)


def test_short_and_long_options_are_taken() -> None:
    assert Slurm(options=("-p gpu", "--time=04:00:00")).options == ("-p gpu", "--time=04:00:00")
