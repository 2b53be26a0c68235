"""Every shipped YAML file is parsed against the real signatures, and everything in it is instantiated."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from shipped_fits import STAGES, make_inputs

from rebasin_lt.commands.table import COMMANDS
from rebasin_lt.errors import InputError
from rebasin_lt.lit.checkpoint_io import SafeCheckpointIO
from rebasin_lt.settings.config_files import find_config, shipped, with_configs_found


def test_every_file_is_of_a_known_kind():
    others = {name for name in shipped() if name not in STAGES and not name.startswith(("studies/", "results/"))}
    assert others == {"permute.yaml", "experiments/resnet20_cifar10_ensemble.yaml"}
    assert {"dense.yaml", "imp.yaml", "sparse.yaml"} <= set(STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_stage_is_parsed_and_instantiated(name, tmp_path, monkeypatch):
    from rebasin_lt.commands.lightning_verbs import RunCLI, run

    monkeypatch.setattr(RunCLI, "_run_subcommand", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])
    monkeypatch.chdir(tmp_path)
    path = find_config(name)
    make_inputs(yaml.safe_load(Path(path).read_text(encoding="utf-8")), tmp_path)
    cli = run(["fit", "--config", path])
    assert cli.trainer.default_root_dir == yaml.safe_load(Path(path).read_text())["trainer"]["default_root_dir"]
    assert isinstance(cli.trainer.strategy.checkpoint_io, SafeCheckpointIO)
    assert not list(tmp_path.rglob("config.yaml"))


def test_permute_configuration_names_the_commands_own_options():
    settings = yaml.safe_load(Path(find_config("permute.yaml")).read_text(encoding="utf-8"))
    assert set(settings) <= set(COMMANDS["permute"].types)


@pytest.mark.parametrize("name", shipped())
def test_each_file_begins_with_its_command_and_its_cost(name):
    head = Path(find_config(name)).read_text(encoding="utf-8").split("\n\n")[0]
    assert f"--config {name}" in head
    assert "Cost:" in head


def test_a_file_here_comes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(find_config("dense.yaml")).is_absolute()
    Path("dense.yaml").write_text("seed_everything: 5")
    assert find_config("dense.yaml") == "dense.yaml"
    assert with_configs_found(["fit", "-c", "imp.yaml", "--config=dense.yaml"])[3] == "--config=dense.yaml"
    assert Path(with_configs_found(["fit", "-c", "imp.yaml"])[2]).is_file()


def test_an_unknown_file_is_refused_with_what_there_is():
    with pytest.raises(InputError, match=r"--config densee.yaml: no such .* shipped \(did you mean dense.yaml\?\)$"):
        find_config("densee.yaml")
    with pytest.raises(InputError, match=r"--config nope.yaml: no such file here, .* shipped are dense.yaml, "):
        find_config("nope.yaml")


SBATCH = sorted(path.name for path in Path(find_config("slurm/one_gpu.sbatch")).parent.iterdir())


@pytest.mark.parametrize("name", SBATCH)
def test_slurm_template_is_a_script_that_requeues_what_was_stopped(name):
    path = Path(find_config(f"slurm/{name}"))
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=60)
    text = path.read_text(encoding="utf-8")
    assert f"#   sbatch {'' if name == 'one_gpu.sbatch' else '--'}" in text
    assert "#SBATCH --signal=USR1@120" in text
    assert "#SBATCH --requeue" in text


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (2, False), (75, True), (137, False)])
@pytest.mark.parametrize("name", SBATCH)
def test_slurm_template_runs_one_command_and_requeues_on_75_alone(name, code, requeued, tmp_path):
    """With an `srun` and a `scontrol` that write down how they were called."""
    for tool, result in (("srun", code), ("scontrol", 0)):
        (tmp_path / tool).write_text(f'#!/bin/bash\nprintf "%s|" {tool} "$@" >> calls\necho >> calls\nexit {result}\n')
        (tmp_path / tool).chmod(0o755)
    (tmp_path / "runs.txt").write_text('--config other.yaml\n--config dense.yaml --model.arch "a b"\n')
    arguments = ["runs.txt"] if name == "array.sbatch" else ["--config", "dense.yaml", "--model.arch", "a b"]
    slurm = {"SLURM_JOB_ID": "41", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "8"}
    slurm |= {"SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "2", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", find_config(f"slurm/{name}"), *arguments], env={**os.environ, **slurm}, cwd=tmp_path, timeout=60
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    job = "40_2" if name == "array.sbatch" else "41"
    assert done.returncode == code
    assert "rebasin-lt|fit|--config|dense.yaml|--model.arch|a b|" in calls[0]
    assert calls[1:] == ([f"scontrol|requeue|{job}|"] if requeued else [])


@pytest.mark.slow
def test_the_wheel_holds_the_configurations_and_the_papers_numbers(tmp_path):
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(root)]
    subprocess.run(command, check=True, timeout=300, env={**os.environ})
    import zipfile

    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert all(f"rebasin_lt/configs/{name}" in names for name in [*shipped(), *(f"slurm/{name}" for name in SBATCH)])
    assert "rebasin_lt/report/published.csv" in names
