"""One folder with good files, and with copies of them that are bad in one way each; made once, and never changed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules that make bad files, and for the tables


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import bad_checkpoints
    import bad_data
    import bad_folders
    import bad_settings
    import bad_tensors

    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["rebasin-lt"])
        for module in (bad_checkpoints, bad_tensors, bad_settings, bad_data, bad_folders):
            module.write()
    return folder
