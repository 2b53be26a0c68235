"""What is a study and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.study.outcome import collect


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a study: it holds no config.yaml; give the folder that `study` wrote"):
        collect(tmp_path)
    (tmp_path / "config.yaml").write_text("command: demo\n")
    with pytest.raises(InputError, match="is not a study: its config.yaml names no methods"):
        collect(tmp_path)
