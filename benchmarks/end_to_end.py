"""Sparse training from end to end, images per second: ours against the paper's loop, at the same accuracy.

    python -m benchmarks.end_to_end [--rounds 5] [--steps 4] [--batch 128] [--widths 1] [--device cpu] [--workers 0]
                                    [--compile] [--seeds 3] [--epochs 10] [--out benchmarks/results]
                                    [--page docs/performance.md]

ResNet20 under a mask of 90 % sparsity on synthetic images of CIFAR's size. The reference is `_paper_training.py`:
torchvision's pipeline (`--workers` processes), `.item()` in every step, torch's pruning hooks, the published check of
gradients. Ours is the Trainer with data in memory, the callbacks of a study's run, and what a YAML may choose:
channels_last, bf16 and, with `--compile`, compiling (minutes); that once more with the network in CUDA graphs. Sides
take turns; a round of either is `--steps` steps (a share of them for wider networks) after three that are not timed.
Accuracy is on digits without flips, `--seeds` runs of either, paired by initialisation and mask; batches are drawn
anew. On a GPU: `--device cuda --widths 1,4,8,16 --steps 200 --workers 8 --compile`, which also gives images per second
and compares them with half of what the arithmetic would allow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from benchmarks._figures import Figure, now, options, ratios, record, spread
from benchmarks._paper_training import accuracy, prune_, train_as_published
from benchmarks.data_path import pil_loader, synthetic
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.callbacks.preemption import Preemption
from rebasin_lt.lit.callbacks.resume_point import ResumePoint
from rebasin_lt.lit.callbacks.step_seed import StepSeed
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data import CIFAR10, ImageData
from rebasin_lt.lit.data.base import Split
from rebasin_lt.lit.data.resident import ResidentImages
from rebasin_lt.lit.metrics_file import MetricsFile
from rebasin_lt.lit.network_module import network_of
from rebasin_lt.lit.trainer import quiet_trainer
from rebasin_lt.pruning.magnitude import magnitude_prune
from rebasin_lt.pruning.mask import Mask

SPARSITY, LEARNING_RATE = 0.9, 0.1
WARM_UP = 3
"""Steps before the clock begins: to compile and choose kernels, to record CUDA graphs, to replay them."""
HALF_ROOFLINE = {4: 49_000, 8: 12_250, 16: 3_050}
"""Images per second on an H100, by width: half of an estimate from 400 TFLOP/s and 3 TB/s in bf16."""
OURS: dict[str, dict[str, Any]] = {
    "float32": {"precision": "32-true", "channels_last": False},
    "channels last": {"precision": "32-true", "channels_last": True},
    "channels last, bf16": {"precision": "bf16-mixed", "channels_last": True},
}
FASTEST = "channels last, bf16"
COMPILED: dict[str, dict[str, Any]] = {
    "channels last, bf16, compiled": OURS[FASTEST] | {"compile": "default"},
    "channels last, bf16, compiled, CUDA graphs": OURS[FASTEST] | {"compile": "reduce-overhead"},
}
"""`compile: true`, and torch's mode that launches forward and backward pass as a graph each."""


class Pixels(ImageData):
    """Images and labels that are in memory already, augmented as CIFAR-10, or without flips."""

    name = "pixels"
    num_classes = 10
    mean, std = CIFAR10.mean, CIFAR10.std

    def __init__(self, pixels: Tensor, labels: Tensor, batch_size: int, padding: int = 4, flip: bool = True) -> None:
        super().__init__(batch_size=batch_size, val_size=0)
        self.pixels, self.labels, self.crop, self.mirror = pixels, labels, padding, flip
        self.input_shape = tuple(pixels.shape[1:])  # type: ignore[assignment]

    def _open(self, part: Split) -> ResidentImages:
        return ResidentImages(self.pixels, self.labels, self._normalisation(), self.crop, self.mirror)


class Steps(Callback):
    """Calls a function at every step."""

    def __init__(self, on_step: Callable[[], Any]) -> None:
        self.on_step = on_step

    def on_train_batch_start(self, *_: Any) -> None:
        self.on_step()


class Compile(Callback):
    """Compiles the network in place when it is on its device, as `compile: true` does, in one of torch's modes."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.compiler.reset()  # else networks of earlier rounds count towards the limit of recompilations
        network_of(pl_module).compile(mode=self.mode)


def new_classifier(
    seed: int, shape: Sequence[int], width: float, channels_last: bool = False, arch: str = "resnet20"
) -> tuple[Classifier, Mask]:
    """A classifier with the initialisation of a seed, and a mask of its largest weights."""
    torch.manual_seed(seed)
    module = Classifier(arch, width, input_shape=list(shape), learning_rate=LEARNING_RATE, channels_last=channels_last)
    state = module.net.state_dict()
    return module, magnitude_prune(state, Mask.ones_like(state), SPARSITY)


def train_ours(
    data: Pixels,
    seed: int,
    width: float,
    epochs: int,
    device: str,
    how: Mapping[str, Any],
    on_step: Callable[[], Any],
    arch: str = "resnet20",
) -> Classifier:
    """As a study trains: a Trainer with all callbacks that a sparse run has there."""
    module, mask = new_classifier(seed, data.input_shape, width, how["channels_last"], arch)
    place = {"accelerator": "gpu" if device == "cuda" else device, "precision": how["precision"]}
    with TemporaryDirectory() as folder:
        resume = ResumePoint(every_minutes=10, every_epoch=False)
        callbacks = [MaskGuard(mask), StepSeed(seed), MetricsFile(folder), resume, Preemption(resume), Steps(on_step)]
        if "compile" in how:
            callbacks.append(Compile(how["compile"]))
        quiet_trainer(folder, epochs, callbacks, enable_checkpointing=True, limit_val_batches=0, **place).fit(
            module, datamodule=data
        )
    return module


def train_theirs(
    data: Pixels, seed: int, width: float, epochs: int, device: str, workers: int, on_step: Callable[[], Any]
) -> Classifier:
    module, mask = new_classifier(seed, data.input_shape, width)
    module.net.to(device)
    prune_(module.net, mask)
    loader = pil_loader(data.pixels, data.labels, data.batch_size, data.crop, data.mirror, workers)
    train_as_published(module.net, loader, epochs, LEARNING_RATE, device, on_step)
    return module


class Clock:
    """Called as each step begins, it reads the time of two of them: `steps` apart, after those that warm up.

    In between, a GPU is not waited for.
    """

    def __init__(self, device: str, steps: int) -> None:
        self.device, self.steps = device, steps
        self.calls, self.times = 0, list[float]()

    def __call__(self) -> None:
        if self.begins or self.ends:
            self.times.append(now(self.device))
        self.calls += 1

    @property
    def begins(self) -> bool:
        return self.calls == WARM_UP

    @property
    def ends(self) -> bool:
        return self.calls == WARM_UP + self.steps

    @property
    def batches(self) -> int:
        """How many it needs: the last is not timed."""
        return WARM_UP + self.steps + 1

    def seconds(self) -> float:
        """Mean of a step."""
        begun, ended = self.times
        return (ended - begun) / self.steps


def speed(given: argparse.Namespace, width: float) -> list[Figure]:
    """Images per second, sides by turns."""
    steps = max(1, round(given.steps / max(1, width)))
    pixels, labels = synthetic(given.batch * Clock(given.device, steps).batches)
    choices = OURS | COMPILED if given.compile else OURS
    seconds: dict[str, list[float]] = {name: [] for name in ("reference", *choices)}
    for _ in range(given.rounds):
        for name in seconds:
            clock, data = Clock(given.device, steps), Pixels(pixels, labels, given.batch)
            if name == "reference":
                train_theirs(data, 0, width, 1, given.device, given.workers, clock)
            else:
                train_ours(data, 0, width, 1, given.device, choices[name], clock)
            seconds[name].append(clock.seconds())
    return speed_figures(seconds, width, given.batch, given.device)


def speed_figures(seconds: dict[str, list[float]], width: float, batch: int, device: str) -> list[Figure]:
    """Seconds of a step, by side, as figures: the quickest of ours has the limit, on a GPU in images per second too."""
    reference, subject = seconds["reference"], f"training images per second, ResNet20×{width:g}"
    ours = {name: values for name, values in seconds.items() if name != "reference"}
    quickest = min(ours, key=lambda name: median(ours[name]))
    limit = "≥ 1.5" if device == "cpu" else "≥ 5" if width == 1 else ""
    figures = [
        Figure(subject, name, "the paper's loop", ratios(reference, values), limit if name == quickest else "")
        for name, values in ours.items()
    ]
    if device != "cpu":
        least = f"≥ {HALF_ROOFLINE[int(width)]:,}" if width in HALF_ROOFLINE else ""
        rates = spread([batch / value for value in ours[quickest]])
        figures.append(Figure(subject, quickest, "", rates, least, "images/s"))
    return figures


def parity(given: argparse.Namespace) -> list[Figure]:
    """Test accuracy less the reference's in percentage points, over seeds."""
    train, test = digits()
    plain = list(test.test_dataloader())
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    for seed in range(given.seeds):
        arguments = (seed, 0.5, given.epochs, given.device)
        theirs = train_theirs(train, *arguments, 0, lambda: None)
        train.seed = seed
        ours = train_ours(train, *arguments, OURS[FASTEST], lambda: None)
        found["theirs"].append(accuracy(theirs.net.cpu(), plain))
        found["ours"].append(accuracy(ours.net.cpu(), plain))
    differences = [a - b for a, b in zip(found["ours"], found["theirs"], strict=True)]
    return [
        Figure("test accuracy on digits", FASTEST, "", spread(found["ours"]), "", "%"),
        Figure("test accuracy on digits", "", "the paper's loop", spread(found["theirs"]), "", "%"),
        Figure("their difference, by seed", FASTEST, "the paper's loop", spread(differences), "", "points"),
    ]


def digits() -> tuple[Pixels, Pixels]:
    """1,437 digits to train on and 360 to test, in three equal colours, from 0 to 240."""
    from sklearn.datasets import load_digits

    images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    pixels = (15 * images).to(torch.uint8).view(-1, 1, 8, 8).expand(-1, 3, -1, -1).contiguous()
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    parts = order[360:], order[:360]
    train, test = (Pixels(pixels[part], labels.long()[part], 64, padding=1, flip=False) for part in parts)
    return train, test


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure speed, then accuracy; print, write."""
    parser = options("end_to_end", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times that every side is run")
    parser.add_argument("--steps", type=int, default=4, help="timed steps in a round")
    parser.add_argument("--batch", type=int, default=128, help="images in a batch")
    parser.add_argument("--widths", default="1", help="of ResNet20, separated by commas")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=0, help="processes of the reference's loader")
    parser.add_argument("--compile", action="store_true", help="compiled networks too")
    parser.add_argument("--seeds", type=int, default=3, help="pairs of runs whose accuracies are compared")
    parser.add_argument("--epochs", type=int, default=10, help="of those")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    figures = [figure for width in given.widths.split(",") for figure in speed(given, float(width))]
    settings = ("batch", "steps", "rounds", "workers", "compile", "seeds", "epochs")
    record("end_to_end", given, [*figures, *parity(given)], **{name: getattr(given, name) for name in settings})


if __name__ == "__main__":
    main()
