"""Private Lightning API, all of it in one place, each piece with a test that says when it can go."""

from __future__ import annotations

from lightning.fabric.loggers.logger import _DummyExperiment as DummyExperiment
from lightning.pytorch.cli import LightningCLI

__all__ = ["ConfigWinsCLI", "DummyExperiment"]


class ConfigWinsCLI(LightningCLI):
    """LightningCLI whose `--ckpt_path FILE` does not overrule configuration and flags.

    Upstream (PL#21455) takes class and hyperparameters from the checkpoint, silently.
    """

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration as it was given."""
