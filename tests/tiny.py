"""The smallest study that has every kind of stage, and a look at its folder."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.data import Digits
from rebasin_lt.lit.data.loader import Normalisation
from rebasin_lt.report.study.sections import write_study_report
from rebasin_lt.study.grid import Study
from rebasin_lt.study.outcome import read_outcome

STUDY = Study(
    title="tiny",
    recipe=Recipe(
        network={"arch": "mlp", "num_classes": 10},
        targets=(0.5, 0.8),
        fraction=0.5,
        rewinds=("0it", "1ep"),
        dense_epochs=2,
        epochs_per_round=1,
        sparse_epochs=1,
    ),
    seeds=[0, 1],
    methods=["lth", "permuted", "naive", "b_imp", "shuffled", "snip"],
    matchers={"permuted": {}, "early": {"at": "1ep", "num_images": 500}},
    barrier={"num_alphas": 3, "splits": ["test"], "matchers": ["permuted"]},
    diversity={"sparsities": [0.8], "rewinds": ["1ep"]},
)


def own_network(width: float, num_classes: int) -> nn.Module:
    """A network of the user's own, as `tiny:own_network`."""
    units = round(8 * width)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, units), nn.ReLU(), nn.Linear(units, num_classes))


class Faint(Digits):
    """A dataset of the user's own, as `tiny:Faint`: digits with less contrast."""

    def __init__(self, contrast: float = 0.5, since: object = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._contrast = contrast

    def normalisation(self) -> Normalisation:
        return Normalisation(self.mean, (self.std[0] / self._contrast,), white=16)


class Unseeded(Digits):
    """One that does not hand on the seed."""

    def __init__(self, batch_size: int = 128) -> None:
        super().__init__(batch_size=batch_size)


class Fetched(Digits):
    """One whose checkpoints cannot say all that it needs: whether to download is not for a file to say."""

    def __init__(self, download: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)


def own_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """A loss of the user's own, as `tiny:own_loss`: a mean square."""
    return (logits.softmax(1) - one_hot(labels, logits.shape[1])).square().sum(1).mean()


class OwnModule(LightningModule):
    """A LightningModule of the user's own, as `tiny:OwnModule`, whose parameters have names of their own."""

    def __init__(self, num_classes: int = 10, rate: float = 0.1) -> None:
        super().__init__()
        self.body, self.head, self.rate = nn.Linear(64, 8), nn.Linear(8, num_classes), rate

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images.flatten(1)).relu())

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        right = (self(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log("test/top1", 100 * right, batch_size=len(batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def write_config(path: Path, study: Study = STUDY, **more: object) -> Path:
    path.write_text(yaml.safe_dump({**study.primitives(), **more}, sort_keys=False), encoding="utf-8")
    return path


def command(config: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "rebasin_lt.cli", "study", "--config", str(config), "--out", str(out), *more]


def start(config: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """The command in a process group of its own, which Ctrl-C reaches even where these tests run in the background."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        command(config, out, *more), env=environment, start_new_session=True, preexec_fn=_listen, **pipes
    )


def _listen() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def report_bytes(folder: Path, place: Path) -> dict[str, str]:
    """What the report of a study's folder holds, by file."""
    write_study_report(read_outcome(folder), place)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(place.iterdir())}
