"""SIGUSR1 and SIGTERM whenever they come: exit code 75, and the same command ends with the same bits."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from runs_to_stop import STEPS, output

from rebasin_lt.cli import main
from rebasin_lt.lit.callbacks import preemption
from rebasin_lt.lit.callbacks.preemption import Preemption
from rebasin_lt.lit.callbacks.resume_point import ResumePoint
from rebasin_lt.process.stop_request import StopRequest

SETUP = "rebasin_lt.lit.data.base:ImageData.setup"
VALIDATION = "rebasin_lt.lit.classifier:Classifier.validation_step"
STOPPED = "the same command goes on from here\n"


def stopped_at(folder) -> int | None:
    """The global step of the checkpoint, if there is one."""
    path = folder / "run" / "last.ckpt"
    return torch.load(path, weights_only=True)["global_step"] if path.exists() else None


@pytest.mark.parametrize(
    ("kind", "workers", "point", "step"),
    [
        ("dense", 2, {"at": "step", "number": STEPS + 4, "action": "USR1"}, STEPS + 5),
        ("imp", 0, {"at": "step", "number": 3 * STEPS, "action": "TERM"}, 3 * STEPS + 1),
        ("imp", 0, {"at": "step", "number": 3 * STEPS - 1, "action": "USR1"}, 3 * STEPS),  # last step of a round
        ("sparse", 2, {"at": VALIDATION, "action": "TERM"}, STEPS),  # the workers are still needed
        ("dense", 0, {"at": "whole", "file": "last.ckpt", "number": 2, "action": "USR1"}, 6),
        ("dense", 0, {"at": SETUP, "action": "TERM"}, None),
    ],
    ids=["in mid-epoch", "first step of a round", "last step of a round", "validation", "in a checkpoint", "data"],
)
def test_a_signal_stops_a_run_and_the_same_command_goes_on(study, kind, workers, point, step):
    folder = study.folder()
    assert study.run(folder, kind, workers, **point) == [75], output(folder)
    assert output(folder).endswith(STOPPED)
    lines = output(folder).splitlines()
    assert [line for line in lines if not line.startswith("run: ")] == lines[-1:]  # besides what a fit says
    assert stopped_at(folder) == step
    study.check_resumes(folder, kind, workers)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_two_processes_stops_both_after_the_same_step(study, rank):
    """Half the batches for each, 5 in an epoch: they agree when the second begins."""
    folder = study.folder()
    codes = study.run(folder, "imp", 0, 2, at="step", number=2, action="USR1", on_ranks=[rank])
    assert codes == [75, 75], output(folder)
    assert stopped_at(folder) == STEPS // 2
    study.check_resumes(folder, "imp", 0, 2)


def test_two_processes_agree_in_mid_epoch(study):
    folder = study.folder()
    point = {"at": "step", "number": 2, "action": "TERM", "on_ranks": [1], "ask_every": 4}
    assert study.run(folder, "dense", 2, 2, **point) == [75, 75], output(folder)
    assert stopped_at(folder) == 4
    study.check_resumes(folder, "dense", 2, 2)


def test_a_signal_in_the_last_epoch_end_comes_too_late(study):
    folder = study.folder()
    assert study.run(folder, "dense", at="step end", number=3 * STEPS - 1, action="TERM") == [0], output(folder)
    study.check_resumes(folder, "dense")


def test_slurm_requeues_nothing_by_itself_and_its_old_checkpoints_are_not_read(study):
    slurm = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}
    slurm |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "1"}
    folder = study.folder()
    point = {"at": "step", "number": STEPS + 4, "action": "USR1", "environment": slurm}
    assert study.run(folder, "dense", **point) == [75], output(folder)
    assert not list(folder.rglob("hpc_ckpt*"))
    (folder / "run" / "hpc_ckpt_1.ckpt").write_bytes(b"of another job")
    assert study.run(folder, "dense", environment=slurm) == [0], output(folder)
    (folder / "run" / "hpc_ckpt_1.ckpt").unlink()
    study.check_resumes(folder, "dense")


def test_gradients_are_never_left_between_two_steps(trainer, tmp_path, monkeypatch):
    """With accumulation, a signal is granted after the batch that steps. Launched processes are left alone."""
    from foreign import ForeignData, ForeignModule

    from rebasin_lt.errors import Preempted

    class Signal(ForeignModule):
        def training_step(self, batch, batch_idx):
            if batch_idx == 0:
                os.kill(os.getpid(), signal.SIGUSR1)
            return super().training_step(batch, batch_idx)

    left_alone = []
    monkeypatch.setattr(preemption, "leave_children_alone", left_alone.append)
    run = trainer(2, [Preemption(ResumePoint())], enable_checkpointing=True, accumulate_grad_batches=3)
    with pytest.raises(Preempted, match="stopped by SIGUSR1 after step 1; the same command goes on from here"):
        run.fit(Signal(), ForeignData())
    assert left_alone == [run]
    loops = torch.load(tmp_path / "last.ckpt", weights_only=True)["loops"]["fit_loop"]
    assert loops["epoch_loop.batch_progress"]["current"]["ready"] == 3
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL  # and the handlers are as before


def test_a_request_is_noted_and_the_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    request = StopRequest()
    with request, request:
        for _ in range(2):  # the second changes nothing
            os.kill(os.getpid(), signal.SIGTERM)
        assert request.signal == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) == before
    with request:
        assert request.signal is None


@pytest.mark.parametrize("setting", ["every_steps=0", "every_minutes=-1"])
def test_intervals_that_cannot_be_are_refused(tmp_path, monkeypatch, capsys, setting):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", "dense.yaml", f"--resume.{setting}"]) == 2
    assert f"resume {setting.replace('=', ' is ').split('.')[0]}" in capsys.readouterr().err
