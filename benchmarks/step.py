"""A training step under a mask against one without, several runs stacked in one process, and waits of the host.

    python -m benchmarks.step [--rounds 101] [--batch 128] [--widths 1] [--device cpu] [--graph]
                              [--out benchmarks/results]
                              [--page docs/performance.md]

ResNet20, at width 1 unless `--widths` says others. Sides take turns, step by step; with the gradients, masks and
optimisers of training, without the Trainer, whose cost is `benchmarks.trainer`'s. Four masked runs are one call of
torch.func, or one step after another. Waits are counted in `rebasin-lt fit` itself, in the steps of an epoch. With
`--graph`, on a GPU, a masked step against the same as one CUDA graph, and nothing else. The file is written anew after
every width.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks._figures import Figure, by_turns, options, ratios, record
from benchmarks._host_reads import Watch, reads_of_fit
from benchmarks._stacked import Stacked
from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.pruning.magnitude import magnitude_prune
from rebasin_lt.pruning.mask import Mask

RUNS = 4
"""In one process."""
GRAPH, ONE_BY_ONE = "in one CUDA graph", "launched one by one"
AT_ONCE = "stacked in one process", "one after another"
LEARNING_RATE = 0.02


class Side:
    """A classifier that trains on one batch of noise, under a mask of 90 % sparsity or not."""

    def __init__(self, masked: bool, device: str, batch: int, width: float = 1) -> None:
        torch.manual_seed(0)
        self.module = Classifier("resnet20", width).to(device)
        self.batch = torch.randn(batch, 3, 32, 32, device=device), torch.randint(0, 10, (batch,), device=device)
        parameters = self.module.parameters()
        self.optimizer = torch.optim.SGD(parameters, LEARNING_RATE, momentum=0.9, weight_decay=5e-4, foreach=True)
        self.trainer: Any = SimpleNamespace(optimizers=[self.optimizer], callbacks=[])
        self.guard = None
        if masked:
            state = self.module.net.state_dict()
            self.mask = magnitude_prune(state, Mask.ones_like(state), 0.9)
            self.guard = MaskGuard(self.mask)
            self.guard.on_fit_start(self.trainer, self.module)
            self.guard.on_train_start(self.trainer, self.module)

    def step(self) -> None:
        loss = self.module.training_step(self.batch, 0)
        self.optimizer.zero_grad()
        loss.backward()
        if self.guard is not None:
            self.guard.on_before_optimizer_step(self.trainer, self.module, self.optimizer)
        self.optimizer.step()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, count, print, write."""
    parser = options("step", __doc__)
    parser.add_argument("--rounds", type=int, default=101, help="steps of either side; several runs take a quarter")
    parser.add_argument("--batch", type=int, default=128, help="images in a batch")
    parser.add_argument("--widths", default="1", help="of ResNet20, separated by commas")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--graph", action="store_true", help="a step as one CUDA graph, instead of everything else")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    figures: list[Figure] = []
    measured, name = (_graph, "step_graph") if given.graph else (_speed, "step")
    for width in map(float, given.widths.split(",")):
        figures += measured(given, width, "" if given.widths == "1" else f", ResNet20×{width:g}")
        network = ", ".join(f"ResNet20×{width}" for width in given.widths.split(","))
        record(name, given, figures, network=network, batch=given.batch, rounds=given.rounds)
    if given.graph:
        return
    figures += [_waits(kind) for kind in ("dense", "masked")]
    record(name, given, figures, network=network, batch=given.batch, rounds=given.rounds)


def _speed(given: argparse.Namespace, width: float, where: str) -> list[Figure]:
    """Ratios of a step's time at a width."""
    sides = {name: Side(name == "masked", given.device, given.batch, width) for name in ("dense", "masked")}
    groups = {name: side.step for name, side in sides.items()}, several(given.device, given.batch, width)
    seconds: dict[str, list[float]] = {}
    for steps, rounds in zip(groups, (given.rounds, max(1, given.rounds // RUNS)), strict=True):
        by_turns(steps, 1, given.device)
        seconds |= by_turns(steps, rounds, given.device)
    together = ratios(*(seconds[name] for name in AT_ONCE[::-1]))
    return [
        Figure(f"a training step{where}", "masked", "dense", ratios(seconds["masked"], seconds["dense"]), "≤ 1.02"),
        Figure(f"steps of {RUNS} masked runs per second{where}", *AT_ONCE, together),
    ]


def _graph(given: argparse.Namespace, width: float, where: str) -> list[Figure]:
    """A masked step, its operators launched one by one and as one graph."""
    side, other = (Side(True, given.device, given.batch, width) for _ in range(2))
    steps = {ONE_BY_ONE: side.step, GRAPH: in_one_graph(other, given.device)}
    by_turns(steps, 1, given.device)
    seconds = by_turns(steps, given.rounds, given.device)
    return [Figure(f"masked steps per second{where}", GRAPH, ONE_BY_ONE, ratios(seconds[ONE_BY_ONE], seconds[GRAPH]))]


def in_one_graph(side: Side, device: str) -> Callable[[], None]:
    """The side's step, forward, backward, optimiser and mask, recorded once and launched as one CUDA graph.

    Gradients keep their memory between steps. On a device without graphs, the step itself.
    """
    if not device.startswith("cuda"):
        return side.step
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):  # the optimiser makes its state, and kernels are chosen, before anything is recorded
            side.step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    side.optimizer.zero_grad()
    with torch.cuda.graph(graph):
        side.step()
    return graph.replay


def several(device: str, batch: int, width: float = 1) -> dict[str, Callable[[], None]]:
    """A step of every run, in both ways."""
    sides = [Side(True, device, batch, width) for _ in range(RUNS)]
    images, labels = (torch.stack(parts) for parts in zip(*(side.batch for side in sides), strict=True))
    stacked = Stacked([side.module.net for side in sides], [side.mask for side in sides], LEARNING_RATE)

    def in_turn() -> None:
        for side in sides:
            side.step()

    return dict(zip(AT_ONCE, (lambda: stacked.step(images, labels), in_turn), strict=True))


def _waits(name: str) -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        count = reads_of_fit(Path(folder), name == "masked").total() / (Watch.LAST - Watch.FIRST)
    return Figure(f"waits of the host for the device, {name}", "`fit`", "", [count] * 3, "≤ 0", "per step")


if __name__ == "__main__":
    main()
