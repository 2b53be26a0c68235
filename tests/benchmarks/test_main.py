"""`python -m benchmarks` knows every benchmark of the folder."""

from __future__ import annotations

import pytest

from benchmarks import __main__ as benchmarks


def test_help_lists_modules_and_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "--help"])
    with pytest.raises(SystemExit, match="0"):
        benchmarks.main()
    said = capsys.readouterr().out
    for name in ("step: ", "golden: Golden trajectories", "results_page: docs/results.md"):
        assert f"\n  {name}" in said
