"""Sign-In on random masks: accuracy with and without it, over seeds and sparsities.

    python -m benchmarks.sign_in [--seeds 3] [--work DIR] [--root DIR] [--out benchmarks/results]

ResNet20×1 on CIFAR-10 at 16×16 pixels, from random weights under a random mask of Erdős–Rényi-kernel densities: the
published direction (NeurIPS 2025, arXiv 2504.12801: +1.1 to +1.6 points at sparsity .80 to .95) at a small scale. Every
run is a folder under --work and is done once. Results go into sign_in.json and docs/signs.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import quality
from benchmarks._page import DOCS, between
from rebasin_lt.experiment import stages
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.process.progress_line import ProgressLine
from rebasin_lt.pruning.allocation import random_erk
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.report.kit.statistics import estimate_mean, paired_difference
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.storage.files import write_json, write_text

SPARSITIES = (0.8, 0.95)
SIDES: dict[str, dict[str, Any]] = {"plain": {}, "sign_in": {"every": 1}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, then write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sign_in", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="folder of all trained networks")
    parser.add_argument("--root", type=Path, default=Path("data"), help="class folders of CIFAR-10")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of sign_in.json")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = quality.settings(given.work)["resnet20"].recipe.data
    quality.prepare(given.root, Path(data["root"]), data["image_size"])
    cells = [(seed, sparsity, side) for seed in range(given.seeds) for sparsity in SPARSITIES for side in SIDES]
    records = []
    with ProgressLine("sign_in") as line:
        for done, (seed, sparsity, side) in enumerate(cells):
            line("run", done, len(cells))
            found = train(given.work / "sign_in", given.work, seed, sparsity, side)
            records.append({"seed": seed, "sparsity": sparsity, "side": side, "accuracy": found})
    write_json(given.out / "sign_in.json", {"torch": str(torch.__version__), "records": records})
    write_report(given.out / "sign_in.json")


def train(folder: Path, work: Path, seed: int, sparsity: float, side: str) -> float:
    """Test accuracy in %, from the same random weights and mask on both sides."""
    recipe = replace(quality.settings(work)["resnet20"].recipe, dense_epochs=1, rewinds=("0it",), sign_in=SIDES[side])
    place = folder / f"seed={seed}"
    stages.train_dense(place / "dense", replace(recipe, sign_in={}), seed)  # an epoch, for its initial weights
    initial = stages.rewind_file(place / "dense", "0it")
    path = place / f"{sparsity:g}.mask.safetensors"
    if not path.exists():
        everything = Mask.ones_of(load_network(initial).network)
        random_erk(everything, sparsity, torch.Generator().manual_seed(seed)).save(path)
    run = place / f"{sparsity:g}-{side}"
    return stages.train_sparse(run, recipe, path, initial, seed, recipe.epochs_after("0it"))["test/top1"]


def write_report(results: Path, docs: Path = DOCS) -> None:
    """Put the table between its markers in docs/signs.md."""
    records = json.loads(results.read_text(encoding="utf-8"))["records"]
    columns = [
        Column("sparsity", align="left"),
        *(Column(f"{title} (%)", decimals=2) for title in ("plain", "Sign-In")),
        Column("difference", decimals=2, signed=True),
    ]
    rows = []
    for sparsity in SPARSITIES:
        plain, ours = (
            {r["seed"]: r["accuracy"] for r in records if (r["sparsity"], r["side"]) == (sparsity, side)}
            for side in SIDES
        )
        means = [estimate_mean(list(values.values())) for values in (plain, ours)]
        rows.append([f"{sparsity:g}", *means, paired_difference(ours, plain)])
    seeds = len({record["seed"] for record in records})
    caption = f"ResNet20×1, CIFAR-10 (JPEG, 16×16), random masks: {seeds} seeds, mean ± standard error"
    page = (docs / "signs.md").read_text(encoding="utf-8")
    table = Table(columns, rows, caption).to_markdown(markup=True).strip()
    write_text(docs / "signs.md", between(page, "sign-in table", table))


if __name__ == "__main__":
    main()
