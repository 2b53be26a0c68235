"""Doing one stage of a study, whoever asks for it: a worker here, or a task on a cluster."""

from __future__ import annotations

from pathlib import Path

from rebasin_lt.process.ranks import rank
from rebasin_lt.storage.links import check_inside
from rebasin_lt.study.grid import Study
from rebasin_lt.study.plan import KINDS
from rebasin_lt.study.record import check_outputs, record, taken
from rebasin_lt.study.stage import Stage


def run_stage(study: Study, stage: Stage, folder: Path) -> None:
    """Do `stage` below the study's `folder`, unless it is complete; then have its result say what it was made from.

    Raises what the stage raises: InputError where the folder holds another run, Preempted where it was told to stop;
    also InputError where a link leads out of the study's folder, and BrokenFileError where a file of the stage is not
    what it wrote.
    """
    check_inside(folder, stage.path)
    check_outputs(folder, stage)
    made_from = taken(folder, stage)
    KINDS[stage.kind].run(study, stage, folder)
    if rank() == 0:  # another process that trains along may be here before the result is
        record(folder, stage, made_from)
