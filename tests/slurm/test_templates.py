"""The shipped SLURM templates on a real cluster: two nodes, a signal in mid-epoch, the queue, an array of runs."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from runs_to_stop import fingerprint

from rebasin_lt.settings.config_files import find_config

STEPS = 20  # in an epoch: 1,000 images, 25 in a batch of each of two processes
NO_GPUS = ["--ntasks-per-node=1", "--gpus-per-node=0", "--cpus-per-task=1", "--time=10"]
RUN = {
    "model": {"class_path": "Classifier", "init_args": {"arch": "mlp"}},
    "data": {"class_path": "Digits", "init_args": {"batch_size": 25}},
    "trainer": {
        "accelerator": "cpu",
        "default_root_dir": "run",
        "max_epochs": -1,
        "callbacks": [
            {
                "class_path": "IterativeMagnitudePruning",
                "init_args": {"targets": [0.5], "fraction": 0.5, "epochs_per_round": 1, "dense_epochs": 2},
            },
            {"class_path": "hold.Hold", "init_args": {"at": STEPS + 3}},
        ],
    },
}


class Queue:
    """Jobs of one folder on the cluster."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self.folder = environment, folder
        folder.mkdir()
        (folder / "run.yaml").write_text(yaml.safe_dump(RUN))

    def call(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def send(self, template: str, options: list[str], *arguments: str) -> str:
        """The id of the new job."""
        path = find_config(f"slurm/{template}")
        return self.call("sbatch", "--parsable", *NO_GPUS, *options, path, *arguments).strip()

    def show(self, job: str) -> list[dict[str, str]]:
        """What SLURM says of a job; of an array, of each task."""
        lines = self.call("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]

    def wait(self, job: str) -> list[dict[str, str]]:
        """What SLURM says when all is over."""
        self.until(lambda: all(task["JobState"] in {"COMPLETED", "FAILED", "TIMEOUT"} for task in self.show(job)))
        return self.show(job)

    def until(self, condition, seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{self.call('squeue')}\n{self.log()}"
            time.sleep(0.3)

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


@pytest.fixture
def queue(cluster, tmp_path):
    return lambda name: Queue(cluster, tmp_path / name)


def test_two_nodes_stop_on_a_signal_and_come_back_to_the_same_bits(queue):
    """The run that is signalled waits for it in mid-epoch, on both nodes; then the template has it requeued."""
    alone, stopped = queue("alone"), queue("stopped")
    (stopped.folder / "hold").touch()
    command = ("multi_node.sbatch", ["--nodes=2"], "--config", "run.yaml")
    job = stopped.send(*command)
    stopped.until(lambda: len(list(stopped.folder.glob("held-?"))) == 2)
    stopped.call("scancel", "--signal=USR1", job)
    undisturbed = alone.send(*command)
    (end,) = stopped.wait(job)
    assert (end["JobState"], end["ExitCode"], end["Restarts"], end["NumNodes"]) == ("COMPLETED", "0:0", "1", "2")
    line = f"stopped by SIGUSR1 after step {STEPS + 10}; the same command goes on from here"
    assert line in stopped.log()
    (end,) = alone.wait(undisturbed)
    assert (end["JobState"], end["Restarts"]) == ("COMPLETED", "0"), alone.log()
    assert fingerprint(stopped.folder / "run") == fingerprint(alone.folder / "run")
    rows = fingerprint(alone.folder / "run")["metrics"].splitlines()
    assert len(rows) == 6  # training and validation of three epochs


def test_an_array_runs_a_line_in_each_task_and_mistakes_are_not_requeued(queue):
    grid = queue("grid")
    line = "--config run.yaml --seed_everything {0} --trainer.default_root_dir 'run {0}'\n"
    (grid.folder / "runs.txt").write_text(line.format(1) + line.format(2) + "--config nope.yaml\n")
    tasks = grid.wait(grid.send("array.sbatch", ["--array=2-3"], "runs.txt"))
    ends = {task["ArrayTaskId"]: (task["JobState"], task["ExitCode"], task["Restarts"]) for task in tasks}
    assert ends == {"2": ("COMPLETED", "0:0", "0"), "3": ("FAILED", "2:0", "0")}
    assert (grid.folder / "run 2" / "last.ckpt").is_file()
    assert not (grid.folder / "run 1").exists()
    assert "--config nope.yaml: no such file here" in grid.log()
