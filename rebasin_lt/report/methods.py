"""The ways to obtain a sparse network: what they are called, what they are, and how they are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

COLOURS = {
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9aa4af"),
    "grid": ("#d8dee4", "#30363d"),
    "lth": ("#007f5c", "#34c79b"),
    "permuted": ("#0067b0", "#58a6ff"),
    "naive": ("#b84a00", "#ff9147"),
    "b_magnitude": ("#7a6200", "#d4b13f"),
    "random_permutation": ("#a0478a", "#e59acb"),
    "shuffled": ("#6e6e6e", "#adadad"),
    "b_imp": ("#7a3fd1", "#b89cff"),
    "other_1": ("#00788a", "#4fcbe0"),
    "other_2": ("#c4254b", "#ff8a9a"),
    "other_3": ("#3f6b12", "#9fd356"),
    "other_4": ("#4a56c0", "#9aa8ff"),
    "other_5": ("#84553a", "#cfa386"),
}
"""Colour by role, for light and for dark ground: distinct to colour-blind readers, 4.5:1 against white and #0d1117."""

_LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_MARKERS = "sDoXd"


class Method(NamedTuple):
    """A method as people read it, and as figures draw it: a key of `COLOURS`, a marker and a kind of line."""

    label: str
    colour: str
    marker: str
    meaning: str
    line: Any = "-"


METHODS: Mapping[str, Method] = {
    "lth": Method("LTH", "lth", "o", "A's rewound weights under A's mask: the lottery ticket."),
    "b_imp": Method(
        "B's IMP mask",
        "b_imp",
        "*",
        "B's rewound weights under the mask that pruning B itself found: the ceiling for B.",
    ),
    "permuted": Method("permuted", "permuted", "s", "B's rewound weights under A's mask, permuted to match B's units."),
    "naive": Method("naive", "naive", "^", "B's rewound weights under A's mask as it is."),
    "b_magnitude": Method(
        "B's magnitude",
        "b_magnitude",
        "P",
        "B's rewound weights under the mask of the largest weights of the trained B.",
    ),
    "random_permutation": Method(
        "random permutation",
        "random_permutation",
        "D",
        "A's mask under a random but consistent permutation of the units: any permutation instead of the matched one.",
    ),
    "shuffled": Method("shuffled", "shuffled", "v", "A's mask shuffled within each layer: layer sparsities only."),
    "degree_preserving": Method(
        "degree preserving", "other_3", "X", "A's mask shuffled so that every unit keeps its in- and out-degree."
    ),
    "uniform": Method("uniform", "other_5", "<", "A random mask of one sparsity in all layers."),
    "erk": Method("ERK", "other_4", ">", "A random mask of Erdős–Rényi-kernel densities."),
    "magnitude": Method("magnitude", "b_magnitude", "h", "The mask of the largest weights of the network given."),
    "mix": Method("mix", "other_1", "p", "Part permuted mask, part B's largest weights."),
    "snip": Method("SNIP", "other_2", "d", "B pruned at once by SNIP, which looks at the loss."),
    "grasp": Method("GraSP", "other_3", "H", "B pruned at once by GraSP, which looks at the flow of gradients."),
    "synflow": Method("SynFlow", "other_5", "8", "B pruned by SynFlow, which looks at paths and at no data."),
}
"""The methods that have names, in the order of every table and figure. All others are ways to match A to B."""

_ALIGNED_AFTER = "permuted"


def in_order(names: Iterable[str]) -> list[str]:
    """Each name once: the known ones as in `METHODS`, further ways to match A to B by name behind `permuted`."""
    known = list(METHODS)
    place = known.index(_ALIGNED_AFTER)
    return sorted(set(names), key=lambda name: (known.index(name), "") if name in METHODS else (place, name))


def is_aligned(name: str) -> bool:
    """Whether the mask is A's, moved by a permutation that was matched: `permuted`, or a name of the user's own."""
    return name == _ALIGNED_AFTER or name not in METHODS


def label_of(name: str) -> str:
    """What tables and figures call a method: `permuted_5ep` is "permuted 5ep"."""
    return METHODS[name].label if name in METHODS else name.replace("_", " ")


def methods_of(names: Iterable[str]) -> dict[str, Method]:
    """The methods in their order, those without a name of their own in colours that the others leave, then dashed."""
    ordered = in_order(names)
    taken = {METHODS[name].colour for name in ordered if name in METHODS}
    free = [colour for colour in COLOURS if colour.startswith("other_") and colour not in taken] or ["other_1"]
    unnamed = [name for name in ordered if name not in METHODS]
    made = {name: _matched(name, index, free) for index, name in enumerate(unnamed)}
    return {name: METHODS.get(name) or made[name] for name in ordered}


def _matched(name: str, index: int, colours: list[str]) -> Method:
    meaning = "B's rewound weights under A's mask, permuted by the matcher of this name."
    line = _LINES[index // len(colours) % len(_LINES)]
    return Method(label_of(name), colours[index % len(colours)], _MARKERS[index % len(_MARKERS)], meaning, line)
