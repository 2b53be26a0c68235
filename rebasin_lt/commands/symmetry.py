"""`rebasin-lt symmetry`: the permutation groups of any network."""

from __future__ import annotations

import torch

from rebasin_lt.commands.options import SymmetryOptions
from rebasin_lt.errors import InputError
from rebasin_lt.models.registry import build_network, default_input_shape
from rebasin_lt.process.terminal_text import say
from rebasin_lt.report.analyses.symmetry import as_json, as_text
from rebasin_lt.symmetry.trace import trace_symmetry


def print_symmetry(options: SymmetryOptions) -> None:
    """Trace the symmetry of a network, verify it, and print it."""
    given = None if options.input_shape is None else _shape(options.input_shape)
    network = build_network(options.model, width=options.width, num_classes=options.num_classes, input_shape=given)
    found = trace_symmetry(network, torch.randn(2, *(given or default_input_shape(options.model))))
    say(as_json(found) if options.json else as_text(found))


def _shape(text: str) -> tuple[int, int, int]:
    sizes = text.split(",")
    if len(sizes) != 3 or not all(size.strip().isdigit() and int(size) > 0 for size in sizes):
        raise InputError(f"--input-shape is {text!r}, expected channels,height,width such as 3,224,224")
    return int(sizes[0]), int(sizes[1]), int(sizes[2])
