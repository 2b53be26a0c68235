import sys
from pathlib import Path

import pytest

from rebasin_lt.lit.trainer import quiet_trainer

sys.path.insert(0, str(Path(__file__).parent))  # for `foreign`, which YAML files name as well


@pytest.fixture
def trainer(tmp_path):
    """A CPU trainer in a folder of the test's own."""

    def make(max_epochs, callbacks=(), **settings):
        return quiet_trainer(tmp_path, max_epochs, callbacks, accelerator="cpu", **settings)

    return make
