"""Stages that two processes train: one decides and writes, both agree."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
from rank_driver import pair

from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.lit.data.registry import build_data

DRIVER = Path(__file__).parents[1] / "rank_driver.py"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of two identical dense stages, one of pruning and a sparse one; and what each rank says."""
    root = tmp_path_factory.mktemp("ranks")
    processes = pair([sys.executable, str(DRIVER), str(root)])
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return root, [json.loads((root / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


def test_identical_runs_leave_the_same_bytes(done):
    root, _ = done
    for name in ("final.ckpt", "rewind/0it.ckpt", "rewind/1ep.ckpt", "metrics.jsonl", "result.json", "config.yaml"):
        contents = [(root / f"dense_{run}" / name).read_bytes() for run in range(2)]
        assert len({hashlib.sha256(content).hexdigest() for content in contents}) == 1, name


def test_what_is_recorded_is_the_accuracy_of_what_was_written(done):
    """Each rank tests its share of the images; a checkpoint loaded again, all of them."""
    root, _ = done
    images, labels = next(iter(build_data("digits").sweep("test", batch_size=10_000)))
    for stage in ("dense_0", "dense_1", "imp", "sparse"):
        network = load_network(root / stage / "final.ckpt").network
        with torch.no_grad():
            hits = network(images).argmax(1).eq(labels)
        recorded = json.loads((root / stage / "result.json").read_text())["test/top1"]
        assert recorded == pytest.approx(100 * hits.double().mean().item(), abs=1e-4), stage


def test_the_first_process_alone_writes_and_both_say_the_same(done):
    _, (first, second) = done
    assert second["touched"] == []
    assert any("/.final.ckpt." in path for path in first["touched"])
    assert first["results"] == second["results"]
    assert first["results"][0] == first["results"][1] == first["results"][-1]


def test_tickets_and_rewind_checkpoints_hold_what_the_first_process_has(done):
    """A rewind checkpoint at the end of training is of before ranks are made equal, a ticket too."""
    root, _ = done
    for early, last in (
        ("dense_0/rewind/1ep.ckpt", "dense_0/final.ckpt"),
        ("imp/imp/sparsity-0.5.ckpt", "imp/final.ckpt"),
    ):
        ours, theirs = (load_network(root / name).network.state_dict() for name in (early, last))
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), early
