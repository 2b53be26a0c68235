"""Benchmarks that train pairs of networks: subject by subject into one file of results, and from that onto a page."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import rebasin_lt as rb
from benchmarks._figures import RESULTS
from benchmarks._page import DOCS
from rebasin_lt.storage.files import write_json

Record = dict[str, Any]


def measured_line(network: nn.Module, a: Any, b: nn.Module, test: Iterable[Any], **settings: Any) -> Record:
    """The losses between two networks, as `loss_barrier` gives them with these settings, for a file of results."""
    found = rb.loss_barrier(network, a, b, test, **settings)
    return {"alphas": found.alphas, "loss": found.loss, "barrier": found.loss_barrier}


def measure_pairs(
    about: str | None,
    name: str,
    subjects: Collection[str],
    measured: Callable[[str, int], Record],
    publish: Callable[[Mapping[str, Sequence[Record]], Path], None],
    arguments: Sequence[str] | None = None,
    num_pairs: int = 1,
) -> None:
    """Have the subjects measured that are asked for, one after the other, and publish what is known of all.

    `about` is the benchmark's own docstring and `name` that of its file in benchmarks/results. A subject that lacks a
    package is left out, and so it is said.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(subjects), help="subjects, by commas")
    parser.add_argument("--pairs", type=int, default=num_pairs, help="pairs of networks of each")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"folder of {name}.json")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page and of images/")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    path = given.out / f"{name}.json"
    for subject in filter(None, given.only.split(",")):
        try:
            found = [measured(subject, pair) for pair in range(given.pairs)]
        except ImportError as error:
            print(f"{subject}: left out, {error}")
            continue
        write_json(path, {key: value for key, value in {**_read(path), subject: found}.items() if key in subjects})
        for record in found:
            print(subject, json.dumps(_barriers(record["lines"])))
    if path.exists():
        publish(_read(path), given.docs)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def _barriers(lines: Mapping[str, Any]) -> Record:
    """The barriers of lines, which may lie in mappings of mappings."""
    return {key: round(each["barrier"], 4) if "barrier" in each else _barriers(each) for key, each in lines.items()}
