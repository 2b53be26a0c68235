"""The largest that tracing and matching should take: a ViT-L/16, a Llama of 88 million parameters, 8,192 hidden units.

    python -m benchmarks.symmetry_scale [--cases a,b] [--out benchmarks/results]

Each case runs in a process of its own, on one thread. Seconds are of the processor's time, which depends less than the
wall's on what else the machine does; memory is the largest resident size of the process so far, PyTorch's own 0.5 GiB
included. After each case symmetry_scale.json is written; at the end docs/symmetry.md gets its table. The Llama needs
transformers.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import rebasin_lt as rb
from benchmarks._page import DOCS, between
from benchmarks._processes import measured_apart
from benchmarks.symmetry import peak_memory_gib, timed
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.storage.files import write_json, write_text

Record = dict[str, float]
Step = tuple[str, Callable[[], Any]]


class Case(NamedTuple):
    """Steps that are measured one after another, in one process, and the most that each should take."""

    title: str
    steps: Callable[[], Iterator[Step]]
    seconds: Mapping[str, float]
    gib: Mapping[str, float]


def _vit() -> Iterator[Step]:
    from torchvision import models

    network = models.vit_l_16(weights=None)
    yield "traced and verified", lambda: rb.trace_symmetry(network, torch.randn(2, 3, 224, 224))


def _llama() -> Iterator[Step]:
    import transformers

    settings = {"vocab_size": 32_000, "hidden_size": 768, "intermediate_size": 2_112, "num_hidden_layers": 6}
    heads = {"num_attention_heads": 12, "num_key_value_heads": 4}
    network = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings, **heads, use_cache=False))
    tokens = [torch.randint(0, 32_000, (2, 64)) for _ in range(4)]
    symmetry: list[rb.Symmetry] = []
    yield "traced and verified", lambda: symmetry.append(rb.trace_symmetry(network, tokens[0]))
    yield from _matched(network, tokens, symmetry[0])


def _perceptron() -> Iterator[Step]:
    network = nn.Sequential(nn.Linear(16, 8192), nn.ReLU(), nn.Linear(8192, 10))
    symmetry: list[rb.Symmetry] = []
    yield "traced and verified", lambda: symmetry.append(rb.trace_symmetry(network, torch.randn(2, 16)))
    yield from _matched(network, [torch.randn(1024, 16) for _ in range(8)], symmetry[0])


def _matched(network: nn.Module, batches: Sequence[Tensor], symmetry: rb.Symmetry) -> Iterator[Step]:
    """Matching by activations to a copy whose units lie in another order, which must be found."""
    twin = copy.deepcopy(network)
    planted = symmetry.random(torch.Generator().manual_seed(1))
    twin.load_state_dict(symmetry.permute(network, planted), strict=False)

    def match() -> None:
        if rb.match_activations(network, twin, batches, symmetry).permutation != planted:
            raise AssertionError("the planted permutation was not found")

    yield "matched by activations", match


CASES = {
    "vit_l_16": Case("ViT-L/16", _vit, {"traced and verified": 90}, {}),
    "llama": Case(
        "Llama of 88 million parameters, 4 batches of 2 × 64 tokens",
        _llama,
        {"traced and verified": 15, "matched by activations": 10},
        {"traced and verified": 3},
    ),
    "units": Case("8,192 hidden units, 8 batches of 1,024 samples", _perceptron, {}, {"matched by activations": 2}),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cases, then write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.symmetry_scale", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--cases", default=",".join(CASES), help=f"some of {', '.join(CASES)}; all of them if not given"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # what a process of its own is started with
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    results = given.out / "symmetry_scale.json"
    for name in given.cases.split(","):
        written = json.loads(results.read_text(encoding="utf-8"))["cases"] if results.is_file() else {}
        written[name] = measured_apart("benchmarks.symmetry_scale", name)
        cases = {case: written[case] for case in CASES if case in written}
        made_by = "python -m benchmarks.symmetry_scale"
        write_json(results, {"made_by": made_by, "torch": torch.__version__, "cases": cases})
    write_table(json.loads(results.read_text(encoding="utf-8"))["cases"])


def measure(name: str) -> dict[str, Record]:
    """Seconds of each step of a case, and the peak memory after it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    measured = {}
    for step, call in CASES[name].steps():
        _, seconds = timed(call)
        measured[step] = {"seconds": seconds, "peak_memory_gib": peak_memory_gib()}
    return measured


def write_table(cases: Mapping[str, Mapping[str, Any]], docs: Path = DOCS) -> None:
    """Put the table between its markers in symmetry.md."""
    columns = [Column("", align="left"), Column("step", align="left"), *map(Column, ("seconds", "GiB"))]
    rows = []
    for name, steps in cases.items():
        case, title = CASES[name], CASES[name].title
        if "failed" in steps:
            rows.append([title, f"failed: {steps['failed']}", "", ""])
            continue
        for step, record in steps.items():
            seconds, gib = record["seconds"], record["peak_memory_gib"]
            rows.append([
                title,
                step,
                _beside(f"{seconds:.1f}", case.seconds.get(step)),
                _beside(f"{gib:.1f}", case.gib.get(step)),
            ])
            title = ""
    page = (docs / "symmetry.md").read_text(encoding="utf-8")
    table = Table(columns, rows).to_markdown(markup=True).strip()
    write_text(docs / "symmetry.md", between(page, "scale table", table))


def _beside(measured: str, most: float | None) -> str:
    return measured if most is None else f"{measured} (at most {most:g})"


if __name__ == "__main__":
    main()
