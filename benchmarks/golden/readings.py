"""What a trajectory computed, read from its files: numbers as they stand there, and hashes of its tensors."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.golden.spellings import RESULTS

Readings = dict[str, float | str]
"""Values by what they are, such as `dense-mlp/metrics.jsonl epoch 2 train/loss`: numbers, text or a tensor's hash."""

FAILED = "failed"
"""Name of the only reading of a trajectory that did not run to its end: what its command said."""

_METRIC = re.compile(r"(train|val|test)/(loss|top1|top5)")


def read(folder: Path, logs: Path) -> Readings:
    """The readings of the folder of a trajectory, in the order in which they came about, and of what `test` printed."""
    found = [(path, reader) for pattern, reader in _READERS.items() for path in sorted(folder.rglob(pattern))]
    readings: Readings = {}
    for path, reader in found:
        about = path.relative_to(folder.parent).as_posix()
        readings.update({_named(f"{about} {name}"): value for name, value in reader(path)})
    for log in sorted(logs.glob(f"{folder.name}.*test.log")):
        readings.update({f"{folder.name} {name}": value for name, value in printed(log.read_text())})
    return readings


def metrics(path: Path) -> Iterator[tuple[str, float]]:
    """Losses and accuracies by epoch of a metrics.jsonl."""
    for line in path.read_text().splitlines():
        row = json.loads(line)
        yield from ((f"epoch {row['epoch']} {key}", value) for key, value in row.items() if _METRIC.fullmatch(key))


def numbers(path: Path) -> Iterator[tuple[str, float]]:
    """All numbers of a result.json but the version of its format, by the keys that lead to them."""

    def walk(value: Any, at: str) -> Iterator[tuple[str, float]]:
        if isinstance(value, (dict, list)):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                yield from walk(inner, f"{at}.{key}" if at else str(key))
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and at != "format_version":
            yield at, value

    return walk(json.loads(path.read_text()), "")


def cells(path: Path) -> Iterator[tuple[str, float]]:
    """Every number of a CSV file by line and column."""
    with path.open(newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=1):
            for column, text in row.items():
                with suppress(ValueError):
                    yield f"line {line} {column}", float(text)


def checkpoint(path: Path) -> Iterator[tuple[str, str]]:
    """Hashes of the weights, buffers and masks of a checkpoint."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    for kind, key in (("weights", "state_dict"), ("mask", "rebasin_lt_mask")):
        yield from ((f"{kind} {name}", digest) for name, digest in hashes(content.get(key) or {}))


def hashes(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """A hash of each tensor's type, shape and bytes, by its name; how it lies in memory or in a file is not in it."""
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        content = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        kind = f"{tensor.dtype} {tuple(tensor.shape)} "
        yield name, f"{kind}{hashlib.sha256(kind.encode() + content).hexdigest()[:16]}"


def tensors(path: Path) -> Iterator[tuple[str, str]]:
    """Hashes of what a file holds; of masks by what they keep, for earlier releases knew no signs."""
    content = load_file(path)
    yield from hashes({name: t.bool() if t.dtype == torch.int8 else t for name, t in content.items()})


def printed(text: str) -> Iterator[tuple[str, float]]:
    """Losses and accuracies that `test` prints: of several with one name, the one with most digits."""
    longest: dict[str, str] = {}
    for match in re.finditer(rf"({_METRIC.pattern})\W+(\d[\d.e+-]*)", text):
        longest[match[1]] = max(longest.get(match[1], ""), match[4], key=len)
    yield from ((name, float(number)) for name, number in longest.items())


def _named(name: str) -> str:
    for old, new in RESULTS.items():
        name = re.sub(rf"(?<![\w]){re.escape(old)}(?!\w)", new, name)
    return name


_READERS: Mapping[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    "metrics.jsonl": metrics,
    "result.json": numbers,
    "report/*.csv": cells,
    "*.ckpt": checkpoint,
    "*.safetensors": tensors,
}
"""By pattern of file. `rows.json` and the like are not results but what an interrupted command goes on from."""
