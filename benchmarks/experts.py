"""What merging the experts of a trained mixture costs, without alignment and after it: the table of docs/experts.md.

    PYTHONPATH=. python -m benchmarks.experts [--seeds 5] [--out DIR]

Two layers of 4 stacked experts are trained on digits, as in `benchmarks.nested`. Every expert is then replaced by the
mean of its layer's, as they are and after they were aligned, by weights and by activations; the loss is that of the
test images.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import rebasin_lt as rb
from benchmarks._figures import RESULTS
from benchmarks._page import DOCS, between
from benchmarks.nested import SUBJECTS, trained
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.storage.files import write_json, write_text

MERGED = {
    "as it is": "as it is",
    "without": "merged without alignment",
    "weights": "merged, aligned by weights",
    "activations": "merged, aligned by activations",
}
Record = dict[str, Any]


def measured(seed: int) -> Record:
    """Losses of one network, by what was done, how alike its experts are, and the largest change that aligning made."""
    train, test = SUBJECTS["experts"].data()
    network = trained(SUBJECTS["experts"], train, seed)
    symmetry = rb.trace_symmetry(network, train[0][0][:2])
    before = network.state_dict()
    states = {"as it is": before, "without": rb.merged_experts(before, symmetry)}
    similarity, change = {}, 0.0
    for by in ("weights", "activations"):
        batches = train if by == "activations" else None
        found = rb.align_experts(network, symmetry, by=by, batches=batches)
        aligned = symmetry.permute(before, found.permutation)
        states[by] = rb.merged_experts(aligned, symmetry)
        similarity[by] = list(found.similarity.values())
        change = max(change, _change(network, aligned, test[0][0]))
    networks = [_with(network, state) for state in states.values()]
    losses = [found.loss for found in rb.evaluate(networks, test)]
    return {"seed": seed, "loss": dict(zip(states, losses, strict=True)), "similarity": similarity, "change": change}


def _with(network: torch.nn.Module, state: Mapping[str, Any]) -> torch.nn.Module:
    changed = copy.deepcopy(network)
    changed.load_state_dict(state)
    return changed


def _change(network: torch.nn.Module, state: Mapping[str, Any], images: torch.Tensor) -> float:
    """The largest difference of an answer, relative to the largest answer."""
    with torch.no_grad():
        expected, found = network(images), _with(network, state)(images)
    return float((found - expected).abs().max() / expected.abs().max())


def table(records: Sequence[Record]) -> Table:
    """A row for each network."""
    rows = [[record["seed"], *(record["loss"][key] for key in MERGED), f"{record['change']:.0e}"] for record in records]
    columns = [Column("network"), *(Column(title, decimals=3) for title in MERGED.values())]
    return Table([*columns, Column("answers changed by aligning")], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the results and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="networks")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of experts.json")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of experts.md")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    records = [measured(seed) for seed in range(given.seeds)]
    write_json(given.out / "experts.json", {"made_by": "python -m benchmarks.experts", "networks": records})
    page = given.docs / "experts.md"
    write_text(page, between(page.read_text(encoding="utf-8"), "experts table", table(records).to_markdown().rstrip()))
    print(json.dumps([record["loss"] for record in records]))


if __name__ == "__main__":
    main()
