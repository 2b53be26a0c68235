"""ResNet50 matched in one pass against a pass for each of its 37 groups, as the published code has it.

    python -m benchmarks.matching_resnet50 [--images 64] [--size 64] [--repeats 3] [--out benchmarks/results]

Each of the 37 passes runs both networks up to the layer whose units it compares, with fp64 products (arXiv 2505.05143's
code; it observes a residual stream at its last block). Both sides use the same traced graph and the same batch, so the
ratio is that of the procedures. Seconds are of the processor's time on one thread; variants take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from rebasin_lt.batches import state_of
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.matching.assignment import solve_assignment
from rebasin_lt.matching.moments import CrossMoments
from rebasin_lt.models.registry import build_network
from rebasin_lt.storage.files import write_json
from rebasin_lt.symmetry.trace import Symmetry, infer_symmetry


class _Seen(Exception):
    """The layer was reached: the rest of the network is not needed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the ratio, write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matching_resnet50", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64, help="images to match on, in one batch")
    parser.add_argument("--size", type=int, default=64, help="height and width of an image")
    parser.add_argument("--repeats", type=int, default=3, help="times that every variant is run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the result")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    networks = [build_network("resnet50").eval() for _ in range(2)]
    images = torch.randn(given.images, 3, given.size, given.size)
    symmetry = infer_symmetry(networks[0], images[:2])
    seconds: dict[str, list[float]] = {"one pass": [], "a pass per group": []}
    for _ in range(given.repeats):
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few images: this is about time
            match_activations(networks[0], networks[1], [images], symmetry)
        seconds["one pass"].append(time.process_time() - began)
        began = time.process_time()
        for group in symmetry.groups:
            match_group([state_of(network) for network in networks], images, symmetry, group)
        seconds["a pass per group"].append(time.process_time() - began)
    ratios = sorted(b / a for a, b in zip(*seconds.values(), strict=True))
    middle = statistics.median(ratios)
    print(f"{len(symmetry.groups)} passes / one pass: {middle:.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})")
    about = {
        "images": given.images,
        "size": given.size,
        "groups": len(symmetry.groups),
        "torch": str(torch.__version__),
    }
    write_json(given.out / "matching_resnet50.json", {**about, "seconds": seconds, "ratios": ratios})


def match_group(states: list[dict[str, Tensor]], images: Tensor, symmetry: Symmetry, group: str) -> Tensor:
    """The group's permutation from a pass of its own, at its last observation."""
    moments, last = CrossMoments(symmetry.num_units(group)), len(symmetry.observations[group]) - 1

    def visit(seen: str, k: int, units: list[Tensor]) -> None:
        if (seen, k) == (group, last):
            moments.update(*(side.double() for side in units))
            raise _Seen

    try:
        symmetry.observe(states, (images,), visit)
    except _Seen:
        return solve_assignment(moments.correlation(), group)
    raise AssertionError(f"{group} was not seen")


if __name__ == "__main__":
    main()
