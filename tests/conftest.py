"""Every test starts from the same seeds, on one thread, without a display, and without a GPU unless it asks for one."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.models import registry
from rebasin_lt.study.folder import claim_study
from rebasin_lt.study.plan import plan
from rebasin_lt.study.work import run_stage
from rebasin_lt.symmetry.trace import trace_symmetry

sys.path.insert(0, str(Path(__file__).parent))  # for `tiny`
sys.path.insert(0, str(Path(__file__).parent / "device"))  # for `pretending`

from pretending import announce

_BY_THE_MINUTE = {"slurm", "study", "test_readme.py"}
"""Folders and files whose tests run whole studies."""


def pytest_configure(config: pytest.Config) -> None:
    os.environ["MPLBACKEND"] = "Agg"
    wanted = config.option.markexpr
    if "gpu" not in wanted or "not gpu" in wanted:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before the first CUDA call, so "auto" means the CPU in these tests
        announce()  # before the first backward pass; it changes nothing where no test asks for the device
    torch.set_num_threads(1)
    _seed()  # for what the files of tests draw when they are imported


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    if config.getoption("numprocesses", None):
        items.sort(key=lambda item: _BY_THE_MINUTE.isdisjoint(item.path.parts))  # the long ones first


@pytest.fixture(autouse=True)
def _seeded() -> None:
    _seed()


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test still use it
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The tiny study, done stage by stage, for reading: once for all processes that test, each of which has a copy."""
    from tiny import STUDY

    temporary = tmp_path_factory.getbasetemp()
    done = (temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary) / "finished"
    with open(f"{done}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with claim_study(done, STUDY):
            for stage in plan(STUDY).values():
                run_stage(STUDY, stage, done)  # which is quick where another process did it
        return shutil.copytree(done, tmp_path_factory.mktemp("study") / "tiny")


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """a.ckpt, b.ckpt: untrained ResNets with batch norm; pi.perm.safetensors; permuted.ckpt, which is π(A).

    They have a block at each width where ResNet20 has three, so that they are traced in less than half the time.
    """
    folder = tmp_path_factory.mktemp("planted")
    registry._NETWORKS["resnet8"] = registry._NETWORKS["resnet20"]._replace(kind=(1,))
    torch.manual_seed(0)
    for name in ("a", "b"):
        module = Classifier(arch="resnet8", width=0.25, input_shape=[1, 8, 8])
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                    tensor.uniform_(0.3, 1.5)
        write(folder / f"{name}.ckpt", module, module.net.state_dict())
        if name == "a":
            symmetry = trace_symmetry(module.net.eval(), torch.randn(2, 1, 8, 8))
            permutation = symmetry.random()
            permutation.save(folder / "pi.perm.safetensors")
            write(folder / "permuted.ckpt", module, symmetry.permute(module.net.state_dict(), permutation))
    return folder


def write(path, module, state) -> None:
    about = {"format_version": 1, **module.architecture(), "data": {"name": "digits"}}
    torch.save({"state_dict": {f"net.{name}": tensor for name, tensor in state.items()}, "rebasin_lt": about}, path)
