"""TensorBoard events that begin with the training, not before it."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from rebasin_lt.lit._compat import DummyExperiment


class RunTensorBoard(TensorBoardLogger):
    """A TensorBoardLogger straight into the run's folder that writes nothing until `begin()`.

    Lightning opens every logger before the callbacks have checked anything; a run that is refused must leave no file.
    A resume adds another events file, which TensorBoard joins.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder, name="", version="", default_hp_metric=False)
        self._begun = False

    def begin(self) -> None:
        """From now on, write."""
        self._begun = True

    @property
    def experiment(self) -> Any:
        return super().experiment if self._begun else DummyExperiment()
