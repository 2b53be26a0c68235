"""Sparse training from end to end, images per second: ours against the paper's loop, at the same accuracy.

    python -m benchmarks.end_to_end [--rounds 5] [--steps 4] [--batch 128] [--widths 1] [--device cpu] [--workers 0]
                                    [--compile] [--seeds 3] [--epochs 10] [--out benchmarks/results]
                                    [--page docs/performance.md]

ResNet20 under a mask of 90 % sparsity on synthetic images of CIFAR's size. The reference is `_paper_training.py`:
torchvision's pipeline (`--workers` processes), `.item()` in every step, torch's pruning hooks, the published check of
gradients. Ours is the Trainer with data in memory, the callbacks of a study's run, and what a YAML may choose:
channels_last, bf16 (on CPUs that have instructions for it) and, with `--compile`, compiling; on a GPU that once more
with the network in CUDA graphs. Every side has a process of its own, and they take turns; a round of either is
`--steps` steps (a share of them for wider networks) after three that are not timed. Ours keep the memory that they
free, as the command line does. A CPU is measured twice: one thread, by the processor's time and without loader
processes; and all cores, by the clock on the wall, with a loader process per core, at most 8. What share of the
quickest's time convolutions take is measured too: no loop can save that. Accuracy is that of the quickest, on digits
without flips, `--seeds` runs of either, paired by initialisation and mask; batches are drawn anew. On a GPU: `--device
cuda --widths 1,4,8,16 --steps 200 --workers 8 --compile`, which also gives images per second and compares them with
half of what the arithmetic would allow.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from benchmarks._arithmetic import ConvolutionShare
from benchmarks._device import trainer_on
from benchmarks._figures import Figure, multiplies_in_bf16, now, options, ratios, record, spread
from benchmarks._paper_training import accuracy, prune_, train_as_published
from benchmarks._processes import processes
from benchmarks.data_path import pil_loader, synthetic
from rebasin_lt.batches import network_of
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.callbacks.preemption import Preemption
from rebasin_lt.lit.callbacks.resume_point import ResumePoint
from rebasin_lt.lit.callbacks.step_seed import StepSeed
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data import CIFAR10, ImageData
from rebasin_lt.lit.data.base import Split
from rebasin_lt.lit.data.resident import ResidentImages
from rebasin_lt.lit.metrics_file import MetricsFile
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
COMPILED, GRAPHS = {"compile": "default"}, {"compile": "reduce-overhead"}
"""`compile: true`, and torch's mode that launches forward and backward pass as a graph each."""
REFERENCE = "reference"


@dataclass(frozen=True)
class Place:
    """What a run has to itself: so many threads, and processes of the reference's loader."""

    device: str
    threads: int = 1
    workers: int = 0

    @property
    def name(self) -> str:
        return "" if self.device != "cpu" else ", one thread" if self.threads == 1 else ", all cores"

    def now(self) -> float:
        """Seconds of the processor for one thread, else on the wall."""
        return time.perf_counter() if self.threads > 1 else now(self.device)


def choices(device: str, compiled: bool = False) -> dict[str, dict[str, Any]]:
    """Ours that are measured on a device: without bf16 on a CPU that has no instructions for it; graphs on a GPU."""
    slow = "bf16-mixed" if device == "cpu" and not multiplies_in_bf16() else None
    found = {name: how for name, how in OURS.items() if how["precision"] != slow}
    if compiled:
        name, how = list(found.items())[-1]
        found[f"{name}, compiled"] = how | COMPILED
        if device != "cpu":
            found[f"{name}, compiled, CUDA graphs"] = how | GRAPHS
    return found


class Pixels(ImageData):
    """Images and labels that are in memory already, augmented as CIFAR-10, or without flips."""

    num_classes = 10
    mean, std = CIFAR10.mean, CIFAR10.std

    def __init__(self, pixels: Tensor, labels: Tensor, batch_size: int, padding: int = 4, flip: bool = True) -> None:
        super().__init__(batch_size=batch_size, val_size=0)
        self.pixels, self.labels, self.crop, self.mirror = pixels, labels, padding, flip
        self.input_shape = tuple(pixels.shape[1:])  # type: ignore[assignment]

    def open_part(self, part: Split) -> ResidentImages:
        return ResidentImages(self.pixels, self.labels, self.normalisation(), self.crop, self.mirror)


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
    place = {**trainer_on(device), "precision": how["precision"]}
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

    def __init__(self, place: Place, steps: int) -> None:
        self.place, self.steps = place, steps
        self.calls, self.times = 0, list[float]()

    def __call__(self) -> None:
        if self.begins or self.ends:
            self.times.append(self.place.now())
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


def step_seconds(how: Mapping[str, Any] | None, width: float, batch: int, steps: int, place: Place) -> float:
    """Seconds of a step of ours, or of the reference where `how` is None, in this process.

    The reference's loader has more images than that takes, so that its processes are at work while the clock runs.
    """
    torch.set_num_threads(place.threads)
    clock = Clock(place, steps)
    ahead = 2 * place.workers if how is None else 0
    data = Pixels(*synthetic(batch * (clock.batches + ahead)), batch)
    if how is None:
        train_theirs(data, 0, width, 1, place.device, place.workers, clock)
    else:
        train_ours(data, 0, width, 1, place.device, how, clock)
    return clock.seconds()


def places(given: argparse.Namespace) -> list[Place]:
    """Where speed is measured."""
    if given.device != "cpu":
        return [Place(given.device, 1, given.workers)]
    cores = len(os.sched_getaffinity(0))
    return [Place("cpu"), *([Place("cpu", cores, min(cores, 8))] if cores > 1 else [])]


def speed(given: argparse.Namespace, run: Mapping[str, Executor]) -> tuple[list[Figure], str]:
    """Images per second, sides by turns, at every width and place; and which of ours was quickest at the first."""
    ours, figures, first = choices(given.device, given.compile), [], ""
    for width in map(float, given.widths.split(",")):
        for place in places(given):
            settings = (width, given.batch, max(1, round(given.steps / max(1, width))), place)
            seconds: dict[str, list[float]] = {name: [] for name in run}
            for _ in range(given.rounds):
                for name, process in run.items():
                    seconds[name].append(process.submit(step_seconds, ours.get(name), *settings).result())
            figures += speed_figures(seconds, width, given.batch, place)
            first = first or quickest_of(seconds)
    return figures, first


def quickest_of(seconds: Mapping[str, Sequence[float]]) -> str:
    """The one of ours whose median is the smallest."""
    return min((name for name in seconds if name != REFERENCE), key=lambda name: median(seconds[name]))


def speed_figures(seconds: Mapping[str, Sequence[float]], width: float, batch: int, place: Place) -> list[Figure]:
    """Seconds of a step, by side, as figures: the quickest of ours has the limit, on a GPU in images per second too."""
    reference, subject = seconds[REFERENCE], f"training images per second, ResNet20×{width:g}{place.name}"
    ours = {name: values for name, values in seconds.items() if name != REFERENCE}
    quickest = quickest_of(seconds)
    limit = "≥ 1.5" if place.device == "cpu" else "≥ 5" if width == 1 else ""
    figures = [
        Figure(subject, name, "the paper's loop", ratios(reference, values), limit if name == quickest else "")
        for name, values in ours.items()
    ]
    if place.device != "cpu":
        least = f"≥ {HALF_ROOFLINE[int(width)]:,}" if width in HALF_ROOFLINE else ""
        rates = spread([batch / value for value in ours[quickest]])
        figures.append(Figure(subject, quickest, "", rates, least, "images/s"))
    return figures


def arithmetic(given: argparse.Namespace, name: str, process: Executor) -> list[Figure]:
    """Convolutions' share of one of ours on one thread of a CPU."""
    if given.device != "cpu":
        return []
    width = float(given.widths.split(",")[0])
    settings = (choices("cpu", given.compile)[name], width, given.batch, given.steps)
    shares = [process.submit(convolution_share, *settings).result() for _ in range(given.rounds)]
    return [Figure(f"convolutions' share of a step, ResNet20×{width:g}, one thread", name, "", spread(shares), "", "%")]


def convolution_share(how: Mapping[str, Any], width: float, batch: int, steps: int) -> float:
    """Percentage of ours, in this process."""
    torch.set_num_threads(1)
    share = ConvolutionShare(WARM_UP, WARM_UP + steps)
    train_ours(Pixels(*synthetic(batch * (WARM_UP + steps + 1)), batch), 0, width, 1, "cpu", how, share)
    return share.percent()


def parity(given: argparse.Namespace, name: str) -> list[Figure]:
    """Test accuracy of one of ours, and of it less the reference's in percentage points, over seeds."""
    train, test = digits()
    how = choices(given.device, given.compile)[name]
    plain = list(test.test_dataloader())
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    for seed in range(given.seeds):
        arguments = (seed, 0.5, given.epochs, given.device)
        theirs = train_theirs(train, *arguments, 0, lambda: None)
        train.seed = seed
        ours = train_ours(train, *arguments, how, lambda: None)
        found["theirs"].append(accuracy(theirs.net.cpu(), plain))
        found["ours"].append(accuracy(ours.net.cpu(), plain))
    differences = [a - b for a, b in zip(found["ours"], found["theirs"], strict=True)]
    return [
        Figure("test accuracy on digits", name, "", spread(found["ours"]), "", "%"),
        Figure("test accuracy on digits", "", "the paper's loop", spread(found["theirs"]), "", "%"),
        Figure("their difference, by seed", name, "the paper's loop", spread(differences), "", "points"),
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
    parser.add_argument("--workers", type=int, default=0, help="processes of the reference's loader, on a GPU")
    parser.add_argument("--compile", action="store_true", help="compiled networks too")
    parser.add_argument("--seeds", type=int, default=3, help="pairs of runs whose accuracies are compared")
    parser.add_argument("--epochs", type=int, default=10, help="of those")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.compile and given.device == "cpu" and not shutil.which("c++"):
        parser.error("--compile needs a C++ compiler, c++, for a CPU")
    with processes([REFERENCE, *choices(given.device, given.compile)], plain=REFERENCE) as run:
        figures, quickest = speed(given, run)
        figures += arithmetic(given, quickest, run[quickest])
    settings = ("batch", "steps", "rounds", "compile", "seeds", "epochs")
    about = {name: getattr(given, name) for name in settings} | {
        "threads": ", ".join(str(place.threads) for place in places(given))
    }
    record("end_to_end", given, [*figures, *parity(given, quickest)], **about)


if __name__ == "__main__":
    main()
