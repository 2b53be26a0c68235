"""Matching in one pass against the published layer-by-layer procedure: time, ratios, and the same permutations.

    python -m benchmarks.matching [--widths 1,4] [--images 200] [--batch 50] [--repeats 5] [--device cpu]
                                  [--checkpoints a.safetensors b.safetensors] [--train DATA_ROOT]
                                  [--out benchmarks/results] [--page docs/matching.md]

On a CPU seconds are of the processor's time on one thread; variants take turns, ratios are medians over repeats.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks._matching_networks import load, open_folder, trained
from benchmarks._page import between
from benchmarks._paper_matching import match_layer_by_layer
from rebasin_lt.matching import activation, two_levels
from rebasin_lt.matching.activation import match_activations
from rebasin_lt.models.registry import build_network
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.storage.files import write_json, write_text
from rebasin_lt.symmetry.trace import Symmetry, infer_symmetry

FORWARDS, FORWARDS_LAST = "two forwards", "two forwards, channels last"
RATIOS = {
    "reference / equal precision": ("reference", "equal precision"),
    "reference / default": ("reference", "default"),
    "default / two forwards, as torch lays them out": ("default", FORWARDS),
    "default / two forwards, channels last": ("default", FORWARDS_LAST),
    "without channels last / two forwards, as torch lays them out": ("channels first", FORWARDS),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each width, print a table and write it beside the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matching", description=__doc__.splitlines()[0])
    parser.add_argument("--widths", default="1,4", help="of ResNet20, separated by commas")
    parser.add_argument("--images", type=int, default=200, help="images to match on; at width 4 a quarter of them")
    parser.add_argument("--batch", type=int, default=50, help="images in a batch")
    parser.add_argument("--repeats", type=int, default=5, help="times that every variant is run")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--checkpoints", type=Path, nargs=2, help="weights of two networks of one width")
    parser.add_argument("--train", type=Path, help="class folders `train` and `test` to train networks on")
    parser.add_argument("--work", type=Path, default=Path("runs/matching"), help="folder of the trained networks")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    parser.add_argument("--page", type=Path, help="page to write the table into, such as docs/matching.md")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    records = {}
    for width in map(int, given.widths.split(",")):
        networks, images = subjects(width, given)
        records[f"resnet20x{width}"] = measure(networks, list(images.split(given.batch)), given.repeats)
    table = _table(records)
    print(table)
    about = {
        "cpu": f"{_cpu()}, {os.cpu_count()} cores",
        "threads": 1,
        "torch": torch.__version__,
        "batch": given.batch,
        "device": torch.cuda.get_device_name() if given.device == "cuda" else given.device,
        "images": "noise" if given.train is None else str(given.train),
        "weights": "trained" if given.train or given.checkpoints else "random",
    }
    write_json(given.out / "matching.json", {"made_by": "python -m benchmarks.matching", **about, "networks": records})
    described = "; ".join(f"{name} {value}" for name, value in about.items())
    text = f"{table}\n\nMedian (smallest to largest) of {given.repeats} runs of each by turns. {described}."
    write_text(given.out / "matching.md", text + "\n")
    if given.page:
        write_text(given.page, between(given.page.read_text(encoding="utf-8"), "cost table", text))


def subjects(width: int, given: argparse.Namespace) -> tuple[list[nn.Module], Tensor]:
    """Two networks, and images: those of the folder to train on, or noise."""
    count = given.images if width == 1 or given.device != "cpu" else max(given.batch, given.images // 4)
    torch.manual_seed(0)
    images = torch.randn(count, 3, 32, 32)
    if given.checkpoints:
        networks = [load(path, width) for path in given.checkpoints]
    elif given.train:
        data = open_folder(given.train)
        networks = trained(width, (0, 1), data, given.work)
        images = torch.cat([batch for batch, _ in data.sweep("train", num_images=count)])
    else:
        networks = [build_network("resnet20", width=width).eval() for _ in range(2)]
    return [network.to(given.device) for network in networks], images.to(given.device)


def measure(networks: list[nn.Module], batches: list[Tensor], repeats: int) -> dict[str, Any]:
    """Seconds of every variant by turns, their ratios, the default's shares, and groups matched as the reference."""
    warnings.filterwarnings("ignore", message="matching .* units")  # few images serve to measure time
    symmetry = infer_symmetry(networks[0].cpu(), torch.zeros(2, 3, 32, 32))
    networks[0].to(batches[0].device)
    assignments: list[float] = []
    variants: dict[str, Callable[[], Any]] = {
        "reference": lambda: match_layer_by_layer(*networks, batches),
        "equal precision": lambda: match_activations(*networks, batches, symmetry, preset="paper"),
        "channels first": lambda: match_activations(*networks, batches, symmetry, channels_last=False),
        "default": lambda: _timing_assignment(assignments, lambda: match_activations(*networks, batches, symmetry)),
        FORWARDS: lambda: _forward(networks, batches),
    }
    layout = torch.channels_last
    last = [copy.deepcopy(network).to(memory_format=layout) for network in networks]
    variants[FORWARDS_LAST] = lambda: _forward(last, [batch.to(memory_format=layout) for batch in batches])
    match_activations(*networks, batches[:1], symmetry)  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    found: dict[str, Any] = {}
    for _ in range(repeats):
        for name, run in variants.items():
            begun = _now(batches[0].device)
            found[name] = run()
            seconds[name].append(_now(batches[0].device) - begun)
    total = sum(seconds["default"])
    forward, assignment = sum(seconds[FORWARDS_LAST]) / total, sum(assignments) / total
    return {
        "images": sum(map(len, batches)),
        "seconds": {name: _spread(values) for name, values in seconds.items()},
        "ratios": {
            name: _spread([a / b for a, b in zip(seconds[above], seconds[below], strict=True)])
            for name, (above, below) in RATIOS.items()
        },
        "shares": {"forward": forward, "assignment": assignment, "products and the rest": 1 - forward - assignment},
        "equal": agreement(found["reference"], found["equal precision"], symmetry),
    }


def agreement(expected: dict[str, Tensor], result: activation.MatchResult, symmetry: Symmetry) -> dict[str, int]:
    """How many groups and units are matched as in the reference, and how many units are live, which settles them."""
    counts = {"groups": 0, "groups_on_live_units": 0, "units": 0, "units_equal": 0, "units_live": 0}
    for weight, indices in expected.items():
        group = next(group for group in symmetry.groups if group in symmetry.axes[weight][0].groups)
        same, live = result.permutation[group] == indices, result.live[group]
        counts["groups"] += bool(same.all())
        counts["groups_on_live_units"] += bool(same[live].all())
        counts["units"] += len(same)
        counts["units_equal"] += int(same.sum())
        counts["units_live"] += int(live.sum())
    return counts


def _timing_assignment(seconds: list[float], run: Callable[[], Any]) -> Any:
    solve = two_levels.solve_assignment

    def timed(*arguments: Any) -> Tensor:
        begun = time.process_time()
        indices = solve(*arguments)
        seconds.append(time.process_time() - begun)
        return indices

    with patch.object(two_levels, "solve_assignment", timed):
        return run()


@torch.no_grad()
def _forward(networks: list[nn.Module], batches: list[Tensor]) -> None:
    for batch in batches:
        for network in networks:
            network(batch)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _spread(values: list[float]) -> list[float]:
    return [statistics.median(values), min(values), max(values)]


def _table(records: dict[str, dict[str, Any]]) -> str:
    names = [Column("", align="left"), *map(Column, records)]
    rows = [
        [ratio, *("{:.2f} ({:.2f} to {:.2f})".format(*record["ratios"][ratio]) for record in records.values())]
        for ratio in RATIOS
    ]
    rows.append(["images", *(str(record["images"]) for record in records.values())])
    for part in ("forward", "products and the rest", "assignment"):
        rows.append([f"{part}, % of default", *(f"{100 * r['shares'][part]:.1f}" for r in records.values())])
    rows.append(["equal groups, preset", *(f"{r['equal']['groups_on_live_units']} of 12" for r in records.values())])
    return Table(names, rows).to_markdown(markup=True).strip()


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
