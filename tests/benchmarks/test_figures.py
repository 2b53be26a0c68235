"""Figures of speed: limits, ratios round by round, and the page that collects them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import data_path, trainer
from benchmarks._figures import Figure, by_turns, multiplies_in_bf16, options, ratios, record, spread

PAGE = "before\n<!-- performance table -->\nold\n<!-- end of performance table -->\nafter\n"


@pytest.mark.parametrize(
    ("limit", "median", "holds"),
    [("≥ 6", 6.0, True), ("≥ 6", 5.9, False), ("≤ 1.1", 1.1, True), ("≤ 1.1", 1.2, False), ("", 1.0, None)],
)
def test_the_median_keeps_the_limit_or_not(limit, median, holds) -> None:
    assert Figure("a", "b", "c", (median, 0, 9), limit).holds() is holds


def test_a_limit_may_have_a_unit_and_a_comma() -> None:
    assert Figure("a", "b", "c", (2500, 1, 2), "≥ 2,500 images/s").holds()


def test_variants_take_turns_and_ratios_are_of_one_round() -> None:
    order = []
    seconds = by_turns({name: lambda name=name: order.append(name) for name in "ab"}, 3)
    assert order == list("ababab")
    assert [len(values) for values in seconds.values()] == [3, 3]
    assert ratios([2.0, 9.0, 8.0], [1.0, 3.0, 2.0]) == [3.0, 2.0, 4.0]
    assert spread([3.0, 1.0, 2.0]) == [2.0, 1.0, 3.0]


def test_the_page_holds_the_figures_of_every_benchmark_that_has_results(tmp_path, capsys) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    given = options("step", "Doc.").parse_args(["--out", str(tmp_path)])
    record("step", given, [Figure("step", "masked", "dense", (1.5, 1, 2), "≤ 1.02")], repeats=3)
    assert page.read_text() == PAGE
    assert "1.500 × (1.000 to 2.00)" in capsys.readouterr().out
    given = options("data_path", "Doc.").parse_args(["--out", str(tmp_path), "--page", str(page)])
    record("data_path", given, [Figure("images", "ours", "PIL", (8.4, 8, 9), "≥ 6")])
    lines = [line for line in page.read_text().splitlines() if "benchmarks" in line or line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines[:4]] == ["| figure", "| :---", "| images", "| step"]
    assert "**no**" in lines[3]
    assert "repeats 3" in lines[5]
    assert (tmp_path / "step.md").read_text().count("\n| ") == 2
    about = json.loads((tmp_path / "step.json").read_text())["about"]
    assert {"cpu", "load", "threads", "torch", "device"} < about.keys()
    assert torch.backends.cpu.get_cpu_capability() in about["cpu"]
    assert ("with bf16" in about["cpu"]) is multiplies_in_bf16()


def test_the_page_names_results_of_other_machines(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    given = options("step", "Doc.").parse_args(["--out", str(tmp_path), "--page", str(page)])
    record("step", given, [Figure("step", "masked", "dense", (1.5, 1, 2))])
    given.machine = "other"
    record("step", given, [Figure("step", "masked", "dense", (2.5, 2, 3))])
    names = [line.split(" | ")[-1] for line in page.read_text().splitlines() if line.startswith("| step")]
    assert names == ["step |", "step-other |"]
    assert "\n- step-other, by `python -m benchmarks.step`: cpu " in page.read_text()


@pytest.mark.parametrize(
    ("flags", "has"), [("fpu avx512_bf16", True), ("amx_bf16", True), ("asimd bf16", True), ("avx512f avx2", False)]
)
def test_bf16_is_an_instruction_that_the_kernel_lists(monkeypatch, flags, has) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: f"model name: any\nflags\t: {flags}\n")
    assert multiplies_in_bf16() is has


def test_loader_processes_are_forked_so_that_they_are_there_at_once() -> None:
    pixels, labels = data_path.synthetic(8)
    assert data_path.pil_loader(pixels, labels, 4, workers=1).multiprocessing_context.get_start_method() == "fork"
    assert data_path.pil_loader(pixels, labels, 4).multiprocessing_context is None


def test_both_ways_to_prepare_images_run_and_have_the_same_normalisation(tmp_path) -> None:
    pixels, labels = data_path.synthetic(8)
    pixels[:] = 100  # so that only padding shows: what is left is one value per channel on both sides
    sides = [loader(pixels, labels, 8, padding=0) for loader in (data_path.pil_loader, data_path.resident_loader)]
    (theirs, _), (ours, _) = (next(iter(side)) for side in sides)
    assert ours.shape == theirs.shape == (8, 3, 32, 32)
    assert ours.numpy() == pytest.approx(theirs.numpy(), abs=1e-5)
    data_path.main(["--images", "16", "--batch", "8", "--repeats", "1", "--out", str(tmp_path)])
    (figure,) = json.loads((tmp_path / "data_path.json").read_text())["figures"]
    assert figure["measured"][0] > 0


def test_the_trainers_are_timed_over_whole_hundreds_of_steps(tmp_path) -> None:
    trainer.main(["--steps", "200", "--repeats", "1", "--out", str(tmp_path)])
    (figure,) = json.loads((tmp_path / "trainer.json").read_text())["figures"]
    assert figure["measured"][1] == figure["measured"][2] > 0
