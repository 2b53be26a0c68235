"""Several runs at once on one GPU against the paper's loop, and ResNet50, in images per second.

    python -m benchmarks.training_device [--device cuda] [--width 1] [--runs 1,2,4,8] [--steps 200] [--workers 8]
                                         [--size 224] [--only runs] [--rounds 3] [--out benchmarks/results]
                                         [--page docs/performance.md]

Runs at once are processes of their own, as `workers_per_gpu` has them: ResNet20 under a mask, as
`benchmarks.end_to_end` trains it. They wait for each other after three steps, and are timed until the last has ended;
the paper's loop takes turns with them, alone, its loader with `--workers` processes. ResNet50 trains under a mask on
synthetic images on the device, one choice after another. `--only` one of the two is measured, if asked for. `--device
cpu --width 0.25 --runs 1,2 --steps 2 --workers 0 --size 32` tries it out: figures are for a GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from benchmarks._device import PRETENDED, opened
from benchmarks._figures import Figure, options, ratios, record, spread
from benchmarks.data_path import synthetic
from benchmarks.end_to_end import COMPILED, FASTEST, OURS, Clock, Pixels, Place, step_seconds, train_ours
from rebasin_lt.process.host_memory import keep_freed_memory

CHOICES = OURS | {
    f"{FASTEST}, compiled": OURS[FASTEST] | COMPILED
}  # ResNet50's launches take no time beside its arithmetic
ROUNDS = 3
READY, DONE = "ready\n", "done\n"
FAILED = "a run among several failed: what it wrote stands above"
ABOUT = ("width", "runs", "steps", "workers", "size")


def runs_at_once(given: argparse.Namespace) -> list[Figure]:
    """Images per second of all runs together against the paper's loop; the best number of runs has the limit."""
    theirs: list[float] = []
    seconds: dict[int, list[float]] = {int(runs): [] for runs in given.runs.split(",")}
    batch = batch_size("resnet20", given.device)
    place = Place(given.device, 1, given.workers)
    for _ in range(given.rounds):
        theirs.append(step_seconds(None, given.width, batch, given.steps, place))
        for runs, values in seconds.items():
            values.append(at_once(runs, given))
    best = min(seconds, key=lambda runs: median(seconds[runs]))
    return [
        Figure(
            f"training images per second, ResNet20×{given.width:g}",
            f"{FASTEST}, {runs} at once",
            "the paper's loop",
            ratios(theirs, values),
            "≥ 10" if runs == best else "",
        )
        for runs, values in seconds.items()
    ]


def at_once(runs: int, given: argparse.Namespace) -> float:
    """Seconds per step of any of `runs` processes together."""
    command = [sys.executable, "-m", "benchmarks.training_device", "--one", "--device", given.device]
    command += ["--width", f"{given.width:g}", "--steps", str(given.steps)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(runs)]
    for process in processes:
        _read_until(READY, process)
    begun = time.perf_counter()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _read_until(DONE, process)
    seconds = time.perf_counter() - begun
    if any([process.wait() for process in processes]):
        raise RuntimeError(FAILED)
    return seconds / (runs * given.steps)


def _read_until(word: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    while (line := process.stdout.readline()) != word:
        if not line:
            raise RuntimeError(FAILED)


def one_run(given: argparse.Namespace) -> None:
    """What each of several processes does."""
    keep_freed_memory()
    batch, clock = batch_size("resnet20", given.device), Meeting(Place(given.device), given.steps)
    data = Pixels(*synthetic(batch * clock.batches), batch)
    train_ours(data, 0, given.width, 1, given.device, OURS[FASTEST], clock)


class Meeting(Clock):
    """A clock that waits, when it has warmed up, until a line comes in, and says when the steps are done."""

    def __call__(self) -> None:
        begins, ends = self.begins, self.ends
        super().__call__()
        if begins:
            print(READY, end="", flush=True)
            sys.stdin.readline()
        if ends:
            print(DONE, end="", flush=True)


def resnet50(given: argparse.Namespace) -> list[Figure]:
    """Every choice against none, and images per second of the quickest in bf16."""
    batch, steps = batch_size("resnet50", given.device), max(1, given.steps // 10)
    ways = CHOICES if given.device != PRETENDED else {name: CHOICES[name] for name in ("float32", FASTEST)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    pixels, labels = synthetic(batch * Clock(Place(given.device), steps).batches, given.size)
    width = given.width if given.device == PRETENDED else 1
    for _ in range(given.rounds):
        for name, how in ways.items():
            clock = Clock(Place(given.device), steps)
            data = Pixels(pixels, labels, batch, given.size // 8)
            train_ours(data, 0, width, 1, given.device, how, clock, "resnet50")
            seconds[name].append(clock.seconds())
    subject, base, *others = f"training images per second, ResNet50, {given.size}×{given.size}", *ways
    best = min((name for name in others if FASTEST in name), key=lambda name: median(seconds[name]))
    rates = spread([batch / value for value in seconds[best]])
    return [
        *(Figure(subject, name, base, ratios(seconds[base], seconds[name])) for name in others),
        Figure(subject, best, "", rates, "≥ 2,500", "images/s"),
    ]


def batch_size(arch: str, device: str) -> int:
    return {"resnet20": 128, "resnet50": 256}[arch] if device.startswith("cuda") else 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = options("training_device", __doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try it out")
    parser.add_argument("--width", type=float, default=1, help="of ResNet20")
    parser.add_argument("--runs", default="1,2,4,8", help="runs at once, separated by commas")
    parser.add_argument("--steps", type=int, default=200, help="timed steps of a run; a tenth of them for ResNet50")
    parser.add_argument("--workers", type=int, default=8, help="processes of the reference's loader")
    parser.add_argument("--size", type=int, default=224, help="height and width of ResNet50's images")
    parser.add_argument("--only", choices=tuple(MEASURED), help="of the two, one")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of everything")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.one:
        with opened(given.device):
            one_run(given)
        return
    figures: list[Figure] = []
    for name in [given.only] if given.only else MEASURED:
        figures += MEASURED[name](given)
    name = f"training_device_{given.only}" if given.only else "training_device"
    record(name, given, figures, **{name: getattr(given, name) for name in ABOUT})


MEASURED: dict[str, Callable[[argparse.Namespace], list[Figure]]] = {"runs": runs_at_once, "resnet50": resnet50}


if __name__ == "__main__":
    main()
