"""What is a study and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.study.outcome import read_outcome


def test_a_folder_that_holds_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no study: there is no config\.yaml in it"):
        read_outcome(tmp_path)
    (tmp_path / "config.yaml").write_text("command: demo\n")
    with pytest.raises(InputError, match=r"holds a run that is no study: its config\.yaml has no recipe"):
        read_outcome(tmp_path)
    (tmp_path / "config.yaml").write_text("recipe: 3\nmethods: [lth]\n")
    with pytest.raises(BrokenFileError, match=r"config\.yaml holds no study: "):
        read_outcome(tmp_path)
