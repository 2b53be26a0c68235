from contextlib import suppress
from datetime import timedelta

import pytest
import torch
import yaml

from rebasin_lt.cli import main
from rebasin_lt.errors import Preempted
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.callbacks.preemption import Preemption
from rebasin_lt.lit.callbacks.resume_point import LAST, ResumePoint
from rebasin_lt.lit.callbacks.step_seed import StepSeed
from rebasin_lt.lit.callbacks.time_limit import TimeLimit
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data import Digits
from rebasin_lt.pruning.mask import Mask


def job(trainer, module, limit, folder):
    """A job of a run that prunes: two epochs of three batches. Whether it came to the end."""
    resume = ResumePoint()
    callbacks = [StepSeed(0), IterativeMagnitudePruning([0.2, 0.36], 1), *limit, resume, Preemption(resume)]
    last = folder / LAST
    run = trainer(-1, callbacks, default_root_dir=folder, enable_checkpointing=True, limit_val_batches=0)
    with suppress(Preempted):
        run.fit(module, Digits(batch_size=300), ckpt_path=last if last.exists() else None)
        return True
    return False


def test_jobs_that_run_out_of_time_take_a_step_each_and_come_to_the_same_bits(trainer, tmp_path):
    straight, module = Classifier(width=0.25), Classifier(width=0.25)
    module.load_state_dict(straight.state_dict())
    assert job(trainer, straight, [], tmp_path / "straight")
    ends = [job(trainer, module, [TimeLimit({"seconds": 0})], tmp_path / "jobs") for _ in range(6)]
    assert ends == [False] * 5 + [True]
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in straight.state_dict().items())
    for target in ("0.2", "0.36"):
        names = [tmp_path / folder / "imp" / f"sparsity-{target}.mask.safetensors" for folder in ("straight", "jobs")]
        assert Mask.load(names[0]) == Mask.load(names[1])


@pytest.mark.parametrize("given", ["00:00:01:30", timedelta(seconds=90), {"minutes": 1, "seconds": 30}])
def test_a_limit_is_read_as_the_trainer_reads_it(given):
    assert TimeLimit(given).seconds == 90


def test_the_command_goes_on_with_every_job_whatever_its_time(tmp_path, capsys):
    folder = tmp_path / "run"
    command = ["fit", "--config", "dense.yaml", "--trainer.max_epochs", "2", "--trainer.callbacks", "null"]
    command += ["--trainer.default_root_dir", str(folder), "--trainer.max_time"]
    assert main([*command, "00:00:00:00"]) == 75
    assert "stopped by max_time after step" in capsys.readouterr().err
    assert main([*command, "00:01:00:00"]) == 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_time"] == "00:00:00:00"
    steps = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if "train/loss" in line]
    assert len(steps) == 2
