"""Figures of speed: two sides that take turns, ratios over the turns, and the page that shows them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks._page import DOCS, between
from rebasin_lt.report.kit.tables import Column, Table
from rebasin_lt.storage.files import write_json, write_text

RESULTS = Path(__file__).parent / "results"
ORDER = ("data_path", "step", "trainer", "end_to_end", "training_device", "startup")
"""Benchmarks whose figures make the table of docs/performance.md, from top to bottom."""


@dataclass(frozen=True)
class Figure:
    """One line of the table: what is compared with what, and what came out, (median, smallest, largest).

    `limit` is the bound that the project sets itself on the median, as `≥ 6`, or "" where it sets none.
    """

    figure: str
    ours: str
    reference: str
    measured: Sequence[float]
    limit: str = ""
    unit: str = "×"

    def holds(self) -> bool | None:
        """Whether the median keeps the limit; None without a limit."""
        if not self.limit:
            return None
        sign, bound = self.limit.split()[:2]
        value = float(bound.replace(",", ""))
        return self.measured[0] >= value if sign == "≥" else self.measured[0] <= value


def spread(values: Sequence[float]) -> list[float]:
    """Median, smallest, largest."""
    return [statistics.median(values), min(values), max(values)]


def by_turns(
    variants: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device | str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of every variant in every round; all run once in a round, so that ratios within one are fair."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, run in variants.items():
            begun = now(device)
            run()
            seconds[name].append(now(device) - begun)
    return seconds


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Spread of the ratios round by round."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def now(device: torch.device | str = "cpu") -> float:
    """Seconds: of the processor's time in this process or, for a GPU, on the wall once the device is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def options(module: str, documentation: str) -> argparse.ArgumentParser:
    """A parser with what every one of these benchmarks takes: where to write."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=documentation.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--machine", default="", help="a name, if results of another machine are to stay beside these")
    parser.add_argument("--page", type=Path, default=None, help=f"page to fill, such as {DOCS / 'performance.md'}")
    return parser


def record(module: str, given: argparse.Namespace, figures: Sequence[Figure], **about: Any) -> None:
    """Print the figures; write them as `out/MODULE.json` and `.md`, with the machine, and fill the page if asked.

    Those of a GPU go into `MODULE-cuda.json`, beside those of the CPU; those of a machine with a name have it there.
    """
    described = {**machine(str(getattr(given, "device", "cpu"))), **about}
    content: dict[str, Any] = {"made_by": f"python -m benchmarks.{module}", "about": described}
    kind = torch.device(str(getattr(given, "device", "cpu"))).type
    parts = [module, "" if kind == "cpu" else kind, given.machine]
    name = "-".join(filter(None, parts))
    write_json(given.out / f"{name}.json", {**content, "figures": [asdict(figure) for figure in figures]})
    text = f"{table([(name, figure) for figure in figures])}\n\n{_sentence(name, content)}\n"
    write_text(given.out / f"{name}.md", text)
    print(text)
    if given.page:
        page = given.page.read_text(encoding="utf-8")
        write_text(given.page, between(page, "performance table", page_text(given.out)))


def page_text(folder: Path) -> str:
    """The table of all benchmarks that have results in the folder, and a line on how each was measured.

    Beside `MODULE.json`, those of other machines that were given a name: `MODULE-cuda.json`, `MODULE-avx2.json`.
    """
    rows, sentences = [], []
    for module in ORDER:
        for path in (folder / f"{module}.json", *sorted(folder.glob(f"{module}-*.json"))):
            if path.is_file():
                content = json.loads(path.read_text(encoding="utf-8"))
                rows += [(path.stem, Figure(**figure)) for figure in content["figures"]]
                sentences.append(f"- {_sentence(path.stem, content)}")
    return "\n".join([table(rows), "", *sentences])


def table(rows: Sequence[tuple[str, Figure]]) -> str:
    """The figures as Markdown."""
    titles = ("figure", "ours", "reference", "median (smallest to largest)", "limit", "holds", "benchmark")
    cells = [
        [
            f.figure,
            f.ours,
            f.reference,
            _measured(f),
            f.limit,
            {None: "", True: "yes", False: "**no**"}[f.holds()],
            name,
        ]
        for name, f in rows
    ]
    return Table([Column(title, align="left") for title in titles], cells).to_markdown(markup=True).strip()


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on."""
    bf16 = " with bf16" if multiplies_in_bf16() else ""
    return {
        "cpu": f"{_cpu()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}{bf16}",
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }


def _measured(figure: Figure) -> str:
    texts = [f"{value:,.{0 if not value or value >= 100 else 2 if value >= 2 else 3}f}" for value in figure.measured]
    return f"{texts[0]} {figure.unit} ({texts[1]} to {texts[2]})"


def _sentence(name: str, content: Mapping[str, Any]) -> str:
    about = "; ".join(f"{key} {value}" for key, value in content["about"].items())
    return f"{name}, by `{content['made_by']}`: {about}."


def multiplies_in_bf16() -> bool:
    """Whether the CPU has instructions for it, by Linux's list of them."""
    words = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").is_file() else []
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(words)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
