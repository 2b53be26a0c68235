"""The paper's real sizes in seconds, without their memory: shapes, no read by the host, and what they would take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sizes import SMALL, Size, bytes_of
from torch._subclasses.fake_tensor import DataDependentOutputException

from rebasin_lt.lit.classifier import Classifier

PAPER = [Size("resnet20", 16, (3, 32, 32), 128), Size("resnet50", 2, (3, 224, 224), 128, 1000)]
GIB = 2**30


@pytest.mark.parametrize(("size", "gib"), zip(PAPER, (4.14, 21.87), strict=True), ids=["resnet20x16", "resnet50x2"])
def test_steps_of_the_papers_sizes_have_their_shapes_and_read_nothing(size, gib) -> None:
    """A read would raise: there are no values. The figures are those of docs/performance.md."""
    found, trained = bytes_of(size)
    assert trained.logits == (1, size.classes)
    assert trained.gradients == trained.parameters
    assert found / GIB == pytest.approx(gib, abs=0.01)


def test_a_read_in_a_step_would_be_seen(monkeypatch) -> None:
    monkeypatch.setattr(Classifier, "training_step", lambda self, batch, _: self.net(batch[0]).sum().item())
    with pytest.raises(DataDependentOutputException):
        bytes_of(SMALL[0]._replace(batch=2))


def test_estimates_are_what_a_process_takes() -> None:
    """Within 15 %, where the allocator gives back what is freed: every tensor in pages of its own."""
    given = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "16384"}
    # By way of a shell, which forks: Linux says of what a large process starts at once that it was as large.
    command = ["sh", "-c", '"$0" "$1"; exit $?', sys.executable, str(Path(__file__).parent / "sizes.py")]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=True)
    taken = json.loads(done.stdout)
    assert [bytes_of(size)[0] for size in SMALL] == pytest.approx(taken, rel=0.15)
