"""Control masks of an untrained ResNet20 on digits: density by layer and seconds, for docs/controls.md."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.models.registry import build_network
from rebasin_lt.pruning.allocation import random_erk, random_uniform
from rebasin_lt.pruning.magnitude import prune_to_sparsity
from rebasin_lt.pruning.mask import Mask, prunable_names
from rebasin_lt.pruning.saliency import grasp, snip
from rebasin_lt.pruning.synflow import synflow
from rebasin_lt.report.kit.figures import blank_figure, figure_style, save_figure, spread
from rebasin_lt.report.kit.methods import COLOURS

FIGURE = Path(__file__).parents[1] / "docs" / "images" / "control-densities.svg"
_SHAPE, _SPARSITY, _SEED = (1, 8, 8), 0.95, 0
_STYLES = {
    "uniform": ("shuffled", "v"),
    "ERK": ("random_permutation", "D"),
    "magnitude": ("ink", "x"),
    "SNIP": ("naive", "^"),
    "GraSP": ("permuted", "s"),
    "SynFlow": ("lth", "o"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Make the masks, print what each took and its thinnest layer, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, default=FIGURE, help="where to draw: .svg or .png")
    options = parser.parse_args(argv)
    masks = {}
    for name, make in _makers().items():
        begun = time.perf_counter()
        masks[name] = make()
        layer = min(masks[name].report(), key=lambda row: row["kept"] / row["weights"])
        thinnest = f"{layer['name']} {layer['kept']:5} of {layer['weights']} kept"
        print(f"{name:10} {time.perf_counter() - begun:6.1f} s, {masks[name].num_kept} kept, thinnest: {thinnest}")
    save_figure(densities_figure(masks), options.figure)


def _makers() -> Mapping[str, Any]:
    torch.manual_seed(_SEED)
    network = build_network("resnet20", input_shape=_SHAPE)
    dense = Mask.ones_like(dict(network.named_parameters()), prunable_names(network))
    images = build_data("digits").sweep("train", num_images=500, batch_size=100)
    return {
        "uniform": lambda: random_uniform(dense, _SPARSITY, torch.Generator().manual_seed(_SEED)),
        "ERK": lambda: random_erk(dense, _SPARSITY, torch.Generator().manual_seed(_SEED)),
        "magnitude": lambda: prune_to_sparsity(network.state_dict(), dense, _SPARSITY),
        "SNIP": lambda: snip(network, dense, images, _SPARSITY),
        "GraSP": lambda: grasp(network, dense, images, _SPARSITY),
        "SynFlow": lambda: synflow(network, dense, _SHAPE, _SPARSITY),
    }


def densities_figure(masks: Mapping[str, Mask]) -> Any:
    """Kept share of each layer, logarithmic, a line per kind, labelled at its end."""
    with figure_style():
        figure, axes = blank_figure(
            "Kept weights by layer, sparsity 0.95",
            "kept weights (%)",
            "prunable layer, from input to output",
            right=0.8,
        )
        axes.set_yscale("log")
        for name, mask in masks.items():
            colour, marker = _STYLES[name]
            density = [100 * row["kept"] / row["weights"] or float("nan") for row in mask.report()]
            axes.plot(range(1, len(density) + 1), density, color=COLOURS[colour][0], marker=marker, markersize=4)
        axes.set_xticks(range(1, len(density) + 1, 3))
        axes.set_yticks([1, 10, 100], ["1", "10", "100"])
        axes.set_ylim(0.5, 130)
        axes.minorticks_off()
        ends = [list(mask.values())[-1].float().mean().item() for mask in masks.values()]
        heights = spread([torch.tensor(100 * end).log10().item() for end in ends], [0.16] * len(ends), -0.3, 2.2)
        for name, height in zip(masks, heights, strict=True):
            beside = axes.get_yaxis_transform()
            axes.text(1.02, 10**height, name, transform=beside, va="center", color=COLOURS[_STYLES[name][0]][0])
    return figure


if __name__ == "__main__":
    main()
