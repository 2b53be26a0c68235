import sys
from pathlib import Path

import pytest

from rebasin_lt.lit.trainer import quiet_trainer

sys.path.insert(0, str(Path(__file__).parent))  # for `foreign`, which YAML files name as well


@pytest.fixture
def trainer(tmp_path):
    """A CPU trainer in a folder of the test's own."""

    def make(max_epochs, callbacks=(), **settings):
        folder = settings.pop("default_root_dir", tmp_path)
        return quiet_trainer(folder, max_epochs, callbacks, accelerator="cpu", **settings)

    return make


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Small runs to stop and to resume, and what each of them comes to if nothing stops it."""
    from kill_driver import Driver
    from runs_to_stop import Runs

    with Driver() as driver:
        yield Runs(driver, tmp_path_factory.mktemp("runs"))
