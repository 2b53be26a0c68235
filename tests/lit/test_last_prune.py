"""One last prune after training under a permuted mask, as `last_prune.yaml` has it: mask, weights, order of events."""

from __future__ import annotations

import json

import torch

from rebasin_lt.cli import main
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.magnitude import magnitude_prune, prune_to_sparsity
from rebasin_lt.pruning.mask import Mask

IMP = "--trainer.callbacks.init_args."


def test_training_under_the_mask_is_followed_by_one_prune_to_the_target(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = Classifier()
    given = magnitude_prune(module.net.state_dict(), Mask.ones_of(module.net), 0.9)
    for folder in ("runs/match", "runs/b/rewind"):
        (tmp_path / folder).mkdir(parents=True)
    given.save("runs/match/sparsity-0.9.mask.safetensors")
    about = {"format_version": 1, **module.architecture(), "moment": "1ep", "steps_per_epoch": 1}
    torch.save({"state_dict": module.state_dict(), "rebasin_lt": about}, "runs/b/rewind/1ep.ckpt")
    short = [f"{IMP}dense_epochs=2", f"{IMP}epochs_per_round=1"]
    assert main(["fit", "--config", "last_prune.yaml", *short, "--data.batch_size", "100"]) == 0
    run = tmp_path / "runs" / "last-prune"

    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    course = [(row["imp/round"], round(row["imp/sparsity"], 4)) for row in rows if "imp/round" in row]
    assert course == [(0, 0.9), (0, 0.9), (1, 0.95)]

    found = Mask.load(run / "imp" / "sparsity-0.95.mask.safetensors")
    assert abs(found.num_kept - 0.05 * found.num_weights) <= 1
    assert all(not (kept & ~given[name]).any() for name, kept in found.items())
    ticket = load_network(run / "imp" / "sparsity-0.95.ckpt").network.state_dict()
    assert all(not ticket[name][~kept].any() for name, kept in found.items())
    start = prune_to_sparsity(module.net.state_dict(), given, found.sparsity)
    assert found.unsigned != start, "it prunes what was trained, not what was there before"
