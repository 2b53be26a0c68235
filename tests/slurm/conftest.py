import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "lit")]  # for `runs_to_stop`


@pytest.fixture(scope="module")
def the_only_cluster():
    """A lock: one cluster at a time is on this machine, whoever tests at the same time; its ports are fixed."""
    with open(Path(tempfile.gettempdir()) / "rebasin-lt-cluster.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def cluster(the_only_cluster, tmp_path_factory):
    """Environment variables for SLURM's commands: a real cluster of two nodes, both of them this machine."""
    missing = [tool for tool in ("slurmctld", "slurmd", "srun", "munged") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and Debian's slurm-wlm and munge; missing: {', '.join(missing) or 'root'}")
    folder, script = tmp_path_factory.mktemp("cluster"), str(HERE / "two_nodes.sh")
    python = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    try:
        subprocess.run(["bash", script, "start", str(folder)], check=True, timeout=150)
        yield {
            **os.environ,
            "PATH": path,
            "PYTHONPATH": python,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "MASTER_ADDR": "127.0.0.1",  # no name server knows n1 and n2
        }
    finally:
        subprocess.run(["bash", script, "stop", str(folder)], check=True, timeout=60)
