"""Markdown: the same sections, figures as files."""

from __future__ import annotations

from pathlib import Path

from rebasin_lt.report.kit.figures import barrier_figure, figure_svg
from rebasin_lt.report.kit.markdown import write_markdown
from rebasin_lt.report.kit.page import Folded, Picture, Section
from rebasin_lt.report.kit.tables import Column, Table


def test_markdown_has_all_parts_and_links_its_figures(tmp_path: Path) -> None:
    figure = barrier_figure({"raw": ([0, 0.5, 1], [1, 2, 1])})
    table = Table([Column("a"), Column("b")], [["x", 1.0]], "Caption")
    sections = [
        Section("", ["Lead <b>& *text*</b>"]),
        Section("Results", [Picture(figure, "Below", "What is seen", "accuracy"), table, Folded(table)]),
    ]
    paths = write_markdown(tmp_path / "report.md", "Title_1", sections)
    assert paths == [tmp_path / "report.md", tmp_path / "accuracy.svg"]
    text = paths[0].read_text(encoding="utf-8")
    assert text.startswith("# Title\\_1\n\nLead &lt;b&gt;&amp; \\*text\\*&lt;/b&gt;\n\n## Results\n")
    assert "![What is seen](accuracy.svg)\n\nBelow\n" in text
    assert text.count("Caption\n\n| a | b |\n| ---: | ---: |\n| x | 1.00 |\n") == 2
    assert paths[1].read_text(encoding="utf-8") == figure_svg(figure)
