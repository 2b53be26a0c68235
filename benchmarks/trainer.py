"""Host time per step that the Trainer adds to a plain loop: ours with all that `fit` has, against Lightning's bare one.

    python -m benchmarks.trainer [--steps 1000] [--repeats 7] [--out benchmarks/results] [--page docs/performance.md]

All sides train a network of two small layers on digits, one image per step, from the same loader with the same
optimiser. Ours is `rebasin-lt fit` of a masked network, with its callbacks, metrics and TensorBoard; the bare Trainer
has no logger, no bar and no checkpoints. The clock is in the network: seconds of the processor between two of its
calls in training, within an epoch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks._clocked import EVERY, Clocked, ticks
from benchmarks._figures import Figure, options, record, spread
from rebasin_lt.commands.lightning_verbs import run
from rebasin_lt.lit.data import Digits
from rebasin_lt.lit.trainer import quiet
from rebasin_lt.pruning.mask import Mask


class Bare(LightningModule):
    """No more than the Trainer asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Clocked()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer_of(self.net)


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, foreach=True)


def data(steps: int) -> Digits:
    return Digits(batch_size=1, train_size=steps, val_size=0)


def plain_loop(steps: int) -> None:
    network = Clocked()
    optimizer = optimizer_of(network)
    digits = data(steps)
    digits.setup("fit")
    for images, labels in digits.train_dataloader():
        loss = cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def bare_trainer(steps: int) -> None:
    quiet()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    digits = data(steps)
    digits.setup("fit")
    trainer.fit(Bare(), digits.train_dataloader())


def fit(steps: int, folder: Path) -> None:
    """`rebasin-lt fit` of a MaskedClassifier."""
    mask = folder / "half.mask.safetensors"
    Mask({name: torch.rand_like(w) < 0.5 for name, w in Clocked().named_parameters() if w.ndim > 1}).save(mask)
    settings = {
        "model": "MaskedClassifier",
        "model.arch": "benchmarks._clocked:Clocked",
        "model.mask": mask,
        "model.learning_rate": 0.01,
        "data": "Digits",
        "data.batch_size": 1,
        "data.train_size": steps,
        "data.val_size": 0,
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": 1,
        "trainer.default_root_dir": folder / "run",
    }
    run(["fit", *(f"--{name}={value}" for name, value in settings.items())])


def seconds_per_step(train: object, *arguments: object) -> float:
    ticks.clear()
    train(*arguments)
    return (ticks[-1] - ticks[0]) / (EVERY * (len(ticks) - 1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the ratio of what is added, write it."""
    parser = options("trainer", __doc__)
    parser.add_argument("--steps", type=int, default=1000, help="steps of either side in a round")
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rounds = []
    for _ in range(given.repeats):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append([
                seconds_per_step(plain_loop, given.steps),
                seconds_per_step(bare_trainer, given.steps),
                seconds_per_step(fit, given.steps, Path(folder)),
            ])
    figure = Figure(
        "host time per step above a plain loop",
        "`fit` under a mask, with its callbacks, metrics and TensorBoard",
        "Lightning's bare Trainer",
        spread([(ours - plain) / (bare - plain) for plain, bare, ours in rounds]),
        "≤ 1.1",
    )
    record("trainer", given, [figure], steps=given.steps, repeats=given.repeats)


if __name__ == "__main__":
    main()
