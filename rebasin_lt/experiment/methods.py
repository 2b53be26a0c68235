"""The ways to obtain a sparse network: masks that pruning leaves, matched ones, and controls."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from rebasin_lt.experiment.controls import CONTROLS, ControlKind, own_control
from rebasin_lt.settings.user_code import is_user_code


class Method(NamedTuple):
    """All there is to know of a method: what it trains, how people read it, and how figures draw it."""

    label: str
    colour: str  # a key of `COLOURS`
    marker: str
    meaning: str
    line: Any = "-"
    weights: Literal["a", "b"] = "b"  # the network that is rewound and trained
    mask: Literal["a", "b", "made"] = "made"  # the network whose pruning leaves the mask; or a stage makes it for B
    fill: Literal["full", "none", "bottom"] = "full"  # of its marker: less for one with signs than for that without


METHODS: dict[str, Method] = {
    "lth": Method("LTH", "lth", "o", "A's rewound weights under A's mask: the lottery ticket.", weights="a", mask="a"),
    "b_imp": Method(
        "B's IMP mask",
        "b_imp",
        "*",
        "B's rewound weights under the mask that pruning B itself found: the ceiling for B.",
        mask="b",
    ),
    "permuted": Method("permuted", "permuted", "s", "B's rewound weights under A's mask, permuted to match B's units."),
    "naive": Method("naive", "naive", "^", "B's rewound weights under A's mask as it is.", mask="a"),
}
"""Those that are no controls, in the order of tables and figures; `permuted` stands for the matchers of a study."""

MATCHED = "permuted"

ENSEMBLES: dict[str, Method] = {
    "dense": Method("dense", "ink", "h", "B as it was trained."),
    "imp": Method("IMP", "b_imp", "p", "B's own tickets."),
}
"""Networks that are compared as ensembles beside those of methods."""


def fixed_methods() -> dict[str, Method]:
    """The methods of a study under masks that pruning leaves, by name."""
    return {name: record for name, record in METHODS.items() if record.mask != "made"}


def control_methods() -> dict[str, str]:
    """The methods of a study that train under a control mask, by name, and the kind of each."""
    names = {kind: kind if record.method is None else record.method for kind, record in CONTROLS.items()}
    return {name: kind for kind, name in names.items() if name}


def kind_of_control(method: str) -> str | None:
    """The kind of control mask of a method, the user's own `package.module:name` included; None if it has none."""
    return method if is_user_code(method) else control_methods().get(method)


def known_methods() -> dict[str, Method]:
    """Every method that has a name everywhere, in the order of tables and figures."""
    return METHODS | {name: _of_control(CONTROLS[kind]) for name, kind in control_methods().items()}


def own_method(name: str) -> Method:
    """A method of the user's own, `package.module:name`, without importing it."""
    return _of_control(own_control(name))


def _of_control(record: ControlKind) -> Method:
    return Method(record.label, record.colour, record.marker, record.meaning)
