"""Training on a GPU: one choice after another, several runs at once, and ResNet50, in images per second.

    python -m benchmarks.training_device [--device cuda] [--widths 1,4,8,16] [--steps 200] [--runs 2,4,8] [--size 224]
                                         [--out benchmarks/results] [--page docs/performance.md]

ResNet20 on synthetic images of CIFAR's size, and ResNet50 on 224×224, all on the device, by our Trainer. Choices are
made one at a time and take turns, over three rounds. Runs at once are processes of their own, as `workers_per_gpu` has
them, with ResNet20 at the first width; they wait for each other after a step, and are timed until the last has ended.
`--device cpu --widths 0.25 --steps 2 --runs 2 --size 32` tries it out: absolute figures are for a GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from lightning import Callback

from benchmarks._figures import Figure, options, ratios, record, spread
from benchmarks.end_to_end import HALF_ROOFLINE, OURS, Clock, Pixels
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.trainer import quiet_trainer

CHOICES = OURS | {"channels last, bf16, compiled": OURS["channels last, bf16"] | {"compile": True}}
BATCH = {"resnet20": 128, "resnet50": 256}
ROUNDS = 3
READY, DONE = "ready\n", "done\n"


class Steps(Callback):
    """Calls the clock at every step."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_start(self, *_: Any) -> None:
        self.clock()


def train(arch: str, width: float, size: int, clock: Clock, device: str, how: dict[str, Any]) -> float:
    """Train for the clock's steps and two more; seconds of a step."""
    batch = BATCH[arch] if device == "cuda" else 2
    pixels = torch.randint(0, 256, (batch * (clock.steps + 2), 3, size, size), dtype=torch.uint8)
    data = Pixels(pixels, torch.randint(0, 10, (len(pixels),)), batch, size // 8)
    settings = {name: value for name, value in how.items() if name != "precision"}
    module = Classifier(arch, width, input_shape=[3, size, size], **settings)
    place = {"accelerator": "gpu" if device == "cuda" else device, "precision": how["precision"]}
    quiet_trainer(".", 1, [Steps(clock)], limit_val_batches=0, **place).fit(module, datamodule=data)
    return clock.seconds()


def ladder(arch: str, width: float, size: int, given: argparse.Namespace) -> list[Figure]:
    """Every choice against none, and images per second of the quickest."""
    seconds: dict[str, list[float]] = {name: [] for name in CHOICES}
    steps = given.steps if arch == "resnet20" else max(1, given.steps // 10)  # those images are 49 times as large
    for _ in range(ROUNDS):
        for name, how in CHOICES.items():
            seconds[name].append(train(arch, width, size, Clock(given.device, steps), given.device, how))
    subject, base, *others = f"training images per second, {arch}×{width:g}", *CHOICES
    figures = [Figure(subject, name, base, ratios(seconds[base], seconds[name])) for name in others]
    best = min(others, key=lambda name: spread(seconds[name])[0])
    limits = {("resnet20", w): f"≥ {rate:,}" for w, rate in HALF_ROOFLINE.items()} | {("resnet50", 1): "≥ 2,500"}
    batch = BATCH[arch] if given.device == "cuda" else 2
    rates = spread([batch / value for value in seconds[best]])
    return [*figures, Figure(subject, best, "", rates, limits.get((arch, width), ""), "images/s")]


def at_once(runs: int, width: float, given: argparse.Namespace) -> float:
    """Steps per second of `runs` processes together."""
    command = [sys.executable, "-m", "benchmarks.training_device", "--one", "--device", given.device]
    command += ["--widths", f"{width:g}", "--steps", str(given.steps)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(runs)]
    for process in processes:
        while process.stdout.readline() not in {READY, ""}:
            pass
    begun = time.perf_counter()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        while process.stdout.readline() not in {DONE, ""}:
            pass
    seconds = time.perf_counter() - begun
    if any(process.wait() for process in processes):
        raise RuntimeError("a run among several failed: what it wrote stands above")
    return runs * given.steps / seconds


class Meeting(Clock):
    """A clock that waits, after the first step, until a line comes in, and says when the steps are done."""

    def __call__(self) -> None:
        super().__call__()
        if self.calls == 2:
            print(READY, end="", flush=True)
            sys.stdin.readline()
        if self.calls == 2 + self.steps:
            print(DONE, end="", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = options("training_device", __doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try it out")
    parser.add_argument("--widths", default="1,4,8,16", help="of ResNet20, separated by commas")
    parser.add_argument("--steps", type=int, default=200, help="timed steps of a run")
    parser.add_argument("--runs", default="2,4,8", help="runs at once, separated by commas")
    parser.add_argument("--size", type=int, default=224, help="height and width of ResNet50's images")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    widths = [float(width) for width in given.widths.split(",")]
    if given.one:
        how = OURS["channels last, bf16"]
        train("resnet20", widths[0], 32, Meeting(given.device, given.steps), given.device, how)
        return
    figures = [figure for width in widths for figure in ladder("resnet20", width, 32, given)]
    alone = at_once(1, widths[0], given)
    for runs in map(int, given.runs.split(",")):
        ratio = at_once(runs, widths[0], given) / alone
        figures.append(Figure(f"training images per second, {runs} runs at once", "", "one run", [ratio] * 3))
    record("training_device", given, [*figures, *ladder("resnet50", 1.0, given.size, given)], steps=given.steps)


if __name__ == "__main__":
    main()
