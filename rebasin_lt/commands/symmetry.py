"""`rebasin-lt symmetry`: the permutation groups of any network."""

from __future__ import annotations

from rebasin_lt.process.terminal_text import say


def symmetry(
    model: str,
    input_shape: str | None = None,
    width: float = 1,
    num_classes: int = 10,
    json: bool = False,
) -> None:
    """Find and verify the permutation symmetry of a network.

    Args:
        model: a built-in name, torchvision:NAME, or package.module:factory
        input_shape: channels,height,width of one example, such as 3,224,224; the network's usual one if not given
        width: factor on the hidden channel counts of a built-in network
        num_classes: outputs of the network
        json: print JSON instead of a table
    """
    import torch

    from rebasin_lt.models.registry import build_network, default_input_shape
    from rebasin_lt.symmetry.describe import as_json, as_text
    from rebasin_lt.symmetry.trace import trace_symmetry

    given = None if input_shape is None else _shape(input_shape)
    network = build_network(model, width=width, num_classes=num_classes, input_shape=given)
    shape = given or default_input_shape(model)
    found = trace_symmetry(network, torch.randn(2, *shape))
    say(as_json(found) if json else as_text(found))


def _shape(text: str) -> tuple[int, int, int]:
    from rebasin_lt.errors import InputError

    sizes = text.split(",")
    if len(sizes) != 3 or not all(size.strip().isdigit() and int(size) > 0 for size in sizes):
        raise InputError(f"--input-shape is {text!r}, expected channels,height,width such as 3,224,224")
    return int(sizes[0]), int(sizes[1]), int(sizes[2])
