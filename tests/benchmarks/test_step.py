"""The step benchmark trains what it says: the masked side stays sparse, both sides learn."""

from __future__ import annotations

import copy
import json
from collections import Counter

import torch

from benchmarks import step
from benchmarks._stacked import Stacked
from benchmarks.step import LEARNING_RATE, Side, main
from rebasin_lt.pruning.mask import Mask


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


def test_stacked_runs_end_where_each_would_alone() -> None:
    sides = [Side(True, "cpu", batch=4) for _ in range(2)]
    for seed, side in enumerate(sides):
        torch.manual_seed(seed)
        for parameter in side.module.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        side.module.double()
        side.mask = Mask({name: torch.rand(kept.shape) < 0.5 for name, kept in side.mask.items()})
        side.guard.mask = side.mask
        side.batch = torch.randn(4, 3, 32, 32).double(), torch.randint(0, 10, (4,))
        side.guard.on_fit_start(side.trainer, side.module)
    networks = [copy.deepcopy(side.module.net) for side in sides]
    stacked = Stacked(networks, [side.mask for side in sides], LEARNING_RATE)
    images, labels = (torch.stack(parts) for parts in zip(*(side.batch for side in sides), strict=True))
    for _ in range(3):
        stacked.step(images, labels)
        for side in sides:
            side.step()
    for run, side in enumerate(sides):
        for name, value in side.module.net.state_dict().items():
            together = {**stacked.parameters, **stacked.buffers}[name][run]
            torch.testing.assert_close(together, value, rtol=1e-9, atol=1e-12)
            assert name not in side.mask or not together[~side.mask[name]].any()


def test_main_writes_the_ratios_and_the_waits(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(step, "reads_of_fit", lambda folder, masked: Counter(a=4 * masked))
    main(["--rounds", "1", "--batch", "2", "--out", str(tmp_path)])
    ratio, stacked, dense, masked = json.loads((tmp_path / "step.json").read_text())["figures"]
    assert ratio["measured"][0] > 0
    assert stacked["measured"][0] > 0
    assert (dense["measured"][0], masked["measured"][0]) == (0, 1)
