"""Matching on a GPU: seconds for the paper's sizes, and how much of them two plain forward passes would take.

    python -m benchmarks.matching_device [--device cuda] [--widths 1,4] [--scale 1] [--batch 500]
                                         [--out benchmarks/results]

50,000 images of 32×32 pixels through ResNet20 of widths 1, 4 and 16, and 25,600 of 224×224 through ResNet50; synthetic,
on the device, networks untrained. `--widths` are those of ResNet20, and leave ResNet50 out. `--scale 0.001 --batch 25
--device cpu` tries it out. Seconds are wall time; the file is written anew after every network.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rebasin_lt.matching.activation import match_activations
from rebasin_lt.models.registry import build_network
from rebasin_lt.storage.files import write_json
from rebasin_lt.symmetry.trace import infer_symmetry

SUBJECTS = (("resnet20", 1, 50_000), ("resnet20", 4, 50_000), ("resnet20", 16, 50_000), ("resnet50", 1, 25_600))


class Synthetic:
    """The same batch of random images again and again, as many images as asked for."""

    def __init__(self, count: int, batch: int, size: int, device: str) -> None:
        self.images = torch.randn(min(batch, count), 3, size, size, device=device)
        self.count = max(1, count // batch)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Tensor]:
        for _ in range(self.count):
            yield self.images


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every network, print a line for each, write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matching_device", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda, cuda:N or cpu")
    parser.add_argument("--widths", default=None, help="of ResNet20, separated by commas, instead of everything")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the images")
    parser.add_argument("--batch", type=int, default=500, help="images in a batch")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the result")
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    records = []
    widths = [] if given.widths is None else given.widths.split(",")
    for arch, width, images in [("resnet20", float(width), 50_000) for width in widths] or SUBJECTS:
        networks = [build_network(arch, width=width).eval().to(device) for _ in range(2)]
        batches = Synthetic(round(images * given.scale), given.batch, 224 if arch == "resnet50" else 32, given.device)
        symmetry = infer_symmetry(networks[0], batches.images[:2])
        _forward(networks, [batches.images])  # kernels are chosen at the first call
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few images at a small scale
            matching = _seconds(device, lambda n=networks, b=batches, s=symmetry: match_activations(*n, b, s))
        forwards = _seconds(device, lambda n=networks, b=batches: _forward(n, b))
        count = len(batches) * len(batches.images)
        subject = f"{arch} ×{width:g}"
        records.append({"network": subject, "images": count, "seconds": matching, "forwards": forwards})
        print(f"{subject}, {count:,} images on {name}: {matching:.1f} s, two forwards {forwards / matching:.0%}")
        content = {"device": name, "torch": str(torch.__version__), "records": records}
        write_json(given.out / "matching_device.json", content)


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Wall time until the device is done."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


@torch.no_grad()
def _forward(networks: Sequence[nn.Module], batches: Synthetic | list[Tensor]) -> None:
    for images in batches:
        for network in networks:
            network(images)


if __name__ == "__main__":
    main()
