"""No step of `fit` waits for the pretended device, whatever is trained and logged; all epochs wait equally often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerator import TRAINER
from marks import Marks
from pretended import Counts, counted
from small import SIZE, network

from rebasin_lt.commands.lightning_verbs import run
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.mask import Mask

EPOCHS = 3
IMP = {"targets": [0.5, 0.7], "fraction": 0.5, "epochs_per_round": 1, "dense_epochs": 1}
TRAININGS: dict[str, list[Any]] = {
    "dense": [],
    "masked": [],
    "imp": [{"class_path": "IterativeMagnitudePruning", "init_args": IMP}],
    "sign_in": [{"class_path": "SignIn"}],
}


def counts_of_fit(folder: Path, kind: str, batches: int = 4) -> Counts:
    """What `rebasin-lt fit` counts in a few epochs, with its callbacks, metrics and loggers on."""
    folder.mkdir()
    model: dict[str, Any] = {"arch": "small:network", "num_classes": 7, "input_shape": list(SIZE)}
    if kind in {"masked", "sign_in"}:
        model["mask"] = str(folder / "half.mask.safetensors")
        weights = Mask.ones_of(network())
        Mask({name: torch.rand(kept.shape) < 0.5 for name, kept in weights.items()}).save(model["mask"])
    settings = {
        "seed_everything": 1,
        "model": {"class_path": "MaskedClassifier" if "mask" in model else "Classifier", "init_args": model},
        "data": {"class_path": "small.Spots", "init_args": {"steps": batches}},
        "trainer": {
            **TRAINER,
            "max_epochs": -1 if kind == "imp" else EPOCHS,
            "log_every_n_steps": 1,
            "default_root_dir": str(folder / "run"),
            "callbacks": [{"class_path": "marks.Marks"}, *TRAININGS[kind]],
            "logger": [
                {"class_path": f"{kind}Logger", "init_args": {"save_dir": str(folder)}}
                for kind in ("TensorBoard", "CSV")
            ],
        },
    }
    (folder / "fit.yaml").write_text(yaml.safe_dump(settings))
    Marks.steps = []
    with counted() as counts:
        Marks.counts = counts
        run(["fit", "--config", str(folder / "fit.yaml")])
    return counts


@pytest.mark.parametrize("kind", TRAININGS)
def test_no_step_reads_from_the_device_or_sends_to_it(kind, device, tmp_path) -> None:
    few = counts_of_fit(tmp_path / "few", kind)
    assert len(Marks.steps) == EPOCHS * 3
    assert Marks.steps == [([], [])] * len(Marks.steps), few.where
    if kind not in {"dense", "imp"}:
        return
    many = counts_of_fit(tmp_path / "many", kind, batches=8)
    assert len(Marks.steps) == EPOCHS * 7
    assert (len(many.reads), len(many.sends)) == (len(few.reads), len(few.sends)), (
        "an epoch's reads grow with its steps"
    )


def test_a_read_in_a_step_would_be_seen(device, tmp_path, monkeypatch) -> None:
    """So this test can fail."""
    step = Classifier.training_step

    def reading(self: Classifier, batch: Any, batch_idx: int) -> Any:
        loss = step(self, batch, batch_idx)
        self.last = loss.item()
        return loss

    monkeypatch.setattr(Classifier, "training_step", reading)
    counts_of_fit(tmp_path / "run", "dense")
    assert [reads for reads, _ in Marks.steps] == [["_local_scalar_dense"]] * len(Marks.steps)
