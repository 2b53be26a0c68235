"""The benchmark of training on a GPU runs at toy size on a CPU, with one choice and two runs at once."""

from __future__ import annotations

import json

import pytest

from benchmarks import training_device
from benchmarks.end_to_end import OURS, Clock


def test_the_clock_reads_two_moments_and_leaves_out_the_first_step(monkeypatch) -> None:
    moments = iter([5.0, 8.0])
    monkeypatch.setattr("benchmarks.end_to_end.now", lambda device: next(moments))
    clock = Clock("cpu", 3)
    for _ in range(5):
        clock()
    assert clock.seconds() == 1.0


def test_choices_runs_at_once_and_resnet50_are_figures(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training_device, "CHOICES", {name: OURS[name] for name in ("float32", "channels last")})
    monkeypatch.setattr(training_device, "ROUNDS", 1)
    monkeypatch.setattr(training_device, "at_once", lambda runs, width, given: float(runs))
    settings = ["--device", "cpu", "--widths", "0.25", "--steps", "1", "--runs", "2", "--size", "32"]
    training_device.main([*settings, "--out", str(tmp_path)])
    figures = json.loads((tmp_path / "training_device.json").read_text())["figures"]
    assert [figure["unit"] for figure in figures] == ["×", "images/s", "×", "×", "images/s"]
    assert figures[2]["measured"] == [2.0] * 3
    assert all(figure["measured"][0] > 0 for figure in figures)


@pytest.mark.slow
def test_runs_at_once_wait_for_each_other_and_end(tmp_path) -> None:
    parser = training_device.options("training_device", "Doc.")
    given = parser.parse_args([])
    given.device, given.steps = "cpu", 2
    assert training_device.at_once(2, 0.25, given) > 0
