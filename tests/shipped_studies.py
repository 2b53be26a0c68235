"""The studies that come with the package."""

from rebasin_lt.settings.config_files import find_config, shipped
from rebasin_lt.storage.strict_yaml import read_yaml
from rebasin_lt.study.folder import study_of
from rebasin_lt.study.grid import Study

STUDIES = [name for name in shipped() if name.startswith("studies/")]
RESULTS = [name for name in shipped() if name.startswith("results/")]
"""Those behind docs/results.md."""
NOT_OF_THE_GRID = ("out", "launcher", "slurm")


def read(name: str) -> Study:
    """The grid in a shipped file."""
    settings = read_yaml(find_config(name))
    return study_of({key: value for key, value in settings.items() if key not in NOT_OF_THE_GRID}, name)
