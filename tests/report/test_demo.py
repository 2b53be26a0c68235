"""The demo prints the tables of its report: the same numbers with the same spread, which is named."""

from __future__ import annotations

import pytest

from rebasin_lt.commands.demo import demo
from rebasin_lt.commands.options import DemoOptions
from rebasin_lt.report.study.accuracy import accuracy_table
from rebasin_lt.report.study.runs import group_runs
from rebasin_lt.report.study.setting import Setting

SPREAD = {1: "test accuracy in %, one seed", 3: "mean ± sample standard deviation, n = 3"}


@pytest.mark.parametrize("count", SPREAD)
def test_what_it_prints_is_what_its_report_says(make_outcome, tmp_path, monkeypatch, capsys, count) -> None:
    seeds = tuple(range(count))
    outcome = make_outcome(
        widths=(1,),
        seeds=seeds,
        rewinds=("1ep",),
        methods=("lth", "permuted", "naive", "b_magnitude", "shuffled"),
        dataset="digits",
        arch="mlp",
    )
    monkeypatch.setattr("rebasin_lt.commands.demo.read_outcome", lambda folder: outcome)
    monkeypatch.setattr("rebasin_lt.commands.demo.complete_study", lambda *about: None)
    demo(DemoOptions(out=str(tmp_path)))
    printed = capsys.readouterr().out
    dense = [run["top1"] for run in outcome.dense]
    cells = group_runs(outcome.sparse)[1.0]
    table = accuracy_table(1, cells, Setting.of(outcome.settings), dense)
    assert printed.startswith(table.to_text())
    assert SPREAD[count] in table.caption
    assert len(table.rows) == 2
    assert "None" not in printed
    assert "nan" not in printed
    assert (
        "standard error" not in printed.partition("gap closure ± standard error")[0]
    )  # of a ratio it is one, and says so
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert table.to_markdown() in page
    assert f"report: {tmp_path / 'report' / 'report.html'}" in printed
