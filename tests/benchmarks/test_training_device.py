"""The benchmark of training on a GPU runs at toy size on a CPU."""

from __future__ import annotations

import argparse
import json

import pytest

from benchmarks import training_device
from benchmarks.end_to_end import OURS, WARM_UP, Clock, Place


def test_the_clock_reads_two_moments_and_leaves_out_the_steps_that_warm_up(monkeypatch) -> None:
    clock, step = Clock(Place("cpu"), 3), 0
    monkeypatch.setattr("benchmarks.end_to_end.now", lambda device: 10.0 * step)
    for step in range(clock.batches):  # noqa: B007 - read by the clock
        clock()
    assert clock.times == [10.0 * WARM_UP, 10.0 * (WARM_UP + 3)]
    assert clock.seconds() == 10.0


def test_runs_at_once_and_resnet50_are_figures(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training_device, "CHOICES", {name: OURS[name] for name in ("float32", "channels last, bf16")})
    monkeypatch.setattr(training_device, "ROUNDS", 1)
    monkeypatch.setattr("benchmarks.end_to_end.WARM_UP", 1)
    monkeypatch.setattr(training_device, "at_once", lambda runs, given: 1.0 / runs)
    settings = ["--device", "cpu", "--width", "0.25", "--steps", "1", "--runs", "1,2", "--workers", "0", "--size", "32"]
    training_device.main([*settings, "--out", str(tmp_path)])
    figures = json.loads((tmp_path / "training_device.json").read_text())["figures"]
    assert [figure["unit"] for figure in figures] == ["×", "×", "×", "images/s"]
    assert [figure["limit"] for figure in figures] == ["", "≥ 10", "", "≥ 2,500"]
    assert figures[1]["measured"][0] == pytest.approx(2 * figures[0]["measured"][0])
    assert all(figure["measured"][0] > 0 for figure in figures)


@pytest.mark.slow
def test_runs_at_once_wait_for_each_other_and_end() -> None:
    assert training_device.at_once(2, argparse.Namespace(device="cpu", steps=2, width=0.25)) > 0


@pytest.mark.slow
def test_a_run_that_fails_among_several_is_told(capfd) -> None:
    with pytest.raises(RuntimeError, match="a run among several failed: what it wrote stands above"):
        training_device.at_once(2, argparse.Namespace(device="nonsense", steps=2, width=0.25))
