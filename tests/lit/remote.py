"""A logger with the contract of those that keep their runs elsewhere: an id of its own, taken up again by `version`."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from lightning.pytorch.loggers import Logger


class Remote(Logger):
    """Keeps each of its runs as a file `ID.json` in `save_dir`, which it makes when it is opened and not before."""

    def __init__(self, save_dir: str, name: str = "project", version: str | None = None, id: str | None = None) -> None:
        super().__init__()
        self.root, self._name, self._id = Path(save_dir), name, version or id
        self._open = False

    @property
    def experiment(self) -> Remote:
        if not self._open:
            self._open, self._id = True, self._id or uuid.uuid4().hex
            self.root.mkdir(parents=True, exist_ok=True)
            self._change("starts", lambda starts: (starts or 0) + 1)
        return self

    def _change(self, key, change):
        path = self.root / f"{self._id}.json"
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**content, key: change(content.get(key))}))

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str | None:
        return self._id

    def log_metrics(self, metrics, step=None):
        self.experiment._change("metrics", lambda rows: [*(rows or []), {**metrics, "step": step}])

    def log_hyperparams(self, params, *args, **kwargs):
        self.experiment._change("hyperparameters", lambda _: dict(params))

    def log_image(self, key, images, step=None):
        self.experiment._change("images", lambda names: [*(names or []), [key, images[0].size]])


class Placed(Remote):
    """One whose class says where it writes, as MLflow's does."""

    def __init__(self, save_dir: str = "./notes", version: str | None = None) -> None:
        super().__init__(save_dir, version=version)
