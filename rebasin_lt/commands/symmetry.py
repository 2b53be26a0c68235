"""`rebasin-lt symmetry`: the permutation groups of any network."""

from __future__ import annotations

from torch import nn

from rebasin_lt.commands.options import SymmetryOptions
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.example import example_of, sizes_of
from rebasin_lt.experiment.subjects import named_inputs
from rebasin_lt.feeding.calls import Fed
from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.models.registry import build_network, default_input_shape
from rebasin_lt.process.terminal_text import say
from rebasin_lt.report.analyses.symmetry import as_json, as_text
from rebasin_lt.settings.user_code import is_user_code
from rebasin_lt.symmetry.trace import trace_symmetry


def print_symmetry(options: SymmetryOptions) -> None:
    """Trace the symmetry of a network, verify it, and print it."""
    inputs = named_inputs(options.inputs)
    if options.data is None and (options.inputs or options.root):
        given = f"--inputs is {options.inputs}" if options.inputs else f"--root is {options.root}"
        raise InputError(f"{given}, but there are no batches to read: give --data, or leave it out")
    network = _network(options)

    def batches() -> Fed | None:
        if options.data is None:
            return None
        root = {} if options.root is None else {"root": options.root}
        return Fed(build_data(options.data, **root).sweep("train"), inputs)

    guessed = default_input_shape(options.model)
    call = example_of(network, options.input_shape, batches, inputs is not None, guessed=guessed)
    found = trace_symmetry(network, call.args, call.kwargs)
    say(as_json(found) if options.json else as_text(found))


def _network(options: SymmetryOptions) -> nn.Module:
    """The network, of the input shape where that is one of images."""
    sizes = None if options.input_shape is None else sizes_of(options.input_shape)[0]
    if sizes is None or (len(sizes) != 3 and is_user_code(options.model)):
        return build_network(options.model, width=options.width, num_classes=options.num_classes)
    if len(sizes) != 3:
        raise InputError(f"--input-shape is {options.input_shape!r}, expected channels,height,width such as 3,224,224")
    shape = (sizes[0], sizes[1], sizes[2])
    return build_network(options.model, width=options.width, num_classes=options.num_classes, input_shape=shape)
