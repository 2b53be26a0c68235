"""The step benchmark trains what it says: the masked side stays sparse, both sides learn."""

from __future__ import annotations

import json
from collections import Counter

import torch

from benchmarks import step
from benchmarks.step import Side, main


def test_sides_differ_by_the_mask_alone() -> None:
    dense, masked = (Side(masked, "cpu", batch=4) for masked in (False, True))
    names = list(masked.guard.mask)
    before = {name: weight.clone() for name, weight in masked.module.net.named_parameters()}
    for side in (dense, masked):
        side.step()
        side.step()
    after = dict(masked.module.net.named_parameters())
    assert abs(sum(int((after[name] == 0).sum()) for name in names) / masked.guard.mask.num_weights - 0.9) < 1e-3
    assert all(not torch.equal(before[name], weight) for name, weight in after.items())
    assert all((weight != 0).all() for name, weight in dense.module.net.named_parameters() if name in names)


def test_main_writes_the_ratio_and_the_waits(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(step, "reads_of_fit", lambda folder, masked: Counter(a=4 * masked))
    main(["--rounds", "1", "--batch", "2", "--out", str(tmp_path)])
    ratio, dense, masked = json.loads((tmp_path / "step.json").read_text())["figures"]
    assert ratio["measured"][0] > 0
    assert (dense["measured"][0], masked["measured"][0]) == (0, 1)
