"""The demo prints the tables of its report: the same numbers with the same spread, which is named."""

from __future__ import annotations

from rebasin_lt.commands.demo import METHODS, _show
from rebasin_lt.report.accuracy import accuracy_table
from rebasin_lt.report.runs import group_runs
from rebasin_lt.report.setting import Setting


def test_what_it_prints_is_what_its_report_says(make_outcome, tmp_path, monkeypatch, capsys) -> None:
    outcome = make_outcome(widths=(1,), rewinds=("1ep",), methods=METHODS, dataset="digits", arch="mlp")
    monkeypatch.setattr("rebasin_lt.study.outcome.collect", lambda folder: outcome)
    _show(tmp_path)
    printed = capsys.readouterr().out
    dense = [run["top1"] for run in outcome.dense]
    cells = group_runs(outcome.sparse)[1.0]
    table = accuracy_table(1, cells, Setting.of(outcome.settings), dense)
    assert printed.startswith(table.to_text())
    assert "mean ± sample standard deviation, n = 3" in table.caption
    assert (
        "standard error" not in printed.partition("gap closure ± standard error")[0]
    )  # of a ratio it is one, and says so
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert table.to_markdown() in page
    assert f"report: {tmp_path / 'report' / 'report.html'}" in printed
