"""The ways to obtain a sparse network: what they are called, what they are, and how they are drawn."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rebasin_lt.errors import InputError

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
"""The methods that have names everywhere, in the order of every table and figure. A study's matchers stand in
the place of `permuted`, whatever they are called."""

_ALIGNED = "permuted"


def spelled(name: str) -> str:
    """A name of the user's as people read it: `permuted_5ep` is "permuted 5ep"."""
    return name.replace("_", " ")


def label_of(name: str) -> str:
    """What tables and figures call a method of `METHODS`, or a role; of any other, its name."""
    return METHODS[name].label if name in METHODS else spelled(name)


@dataclass(frozen=True)
class Methods:
    """The methods of a study: its matchers, by name with their settings, and those of `METHODS`.

    What a method is follows from the settings alone: a matcher's name may be any, and tells nothing.
    """

    matchers: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {_ALIGNED: {}})

    def is_aligned(self, name: str) -> bool:
        """Whether the mask is A's, moved by a permutation that was matched: whether it is one of the matchers."""
        return name in self.matchers

    def label(self, name: str) -> str:
        """What tables and figures call a method."""
        return spelled(name) if self.is_aligned(name) else label_of(name)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Each name once, as in `METHODS`; matchers in the order of the study, in the place of `permuted`.

        Raises InputError, with the near name, for one that is neither.
        """
        names, own, known = dict.fromkeys(names), list(self.matchers), list(METHODS)
        unknown = [name for name in names if name not in own and (name not in METHODS or name == _ALIGNED)]
        if unknown:
            expected = [*own, *(name for name in known if name != _ALIGNED)]
            close = difflib.get_close_matches(unknown[0], expected, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise InputError(
                f"methods: the runs hold {unknown[0]!r}, which is no method of this study{hint}: expected one of its "
                f"matchers, {', '.join(own)}, or of {', '.join(expected[len(own) :])}"
            )
        places = {name: (known.index(name), 0) for name in known}
        places |= {name: (known.index(_ALIGNED), at) for at, name in enumerate(own)}
        return sorted(names, key=places.__getitem__)

    def described(self, names: Iterable[str]) -> dict[str, Method]:
        """The methods in their order; the study's first matcher is drawn as `permuted` is, its others in colours that
        the methods here leave, then dashed. Raises as `in_order`."""
        ordered, first = self.in_order(names), next(iter(self.matchers), None)
        others = [name for name in ordered if self.is_aligned(name) and name != first]
        taken = {METHODS[name].colour for name in ordered if not self.is_aligned(name)}
        free = [colour for colour in COLOURS if colour.startswith("other_") and colour not in taken] or ["other_1"]
        return {
            name: self._matched(name, others.index(name) if name in others else None, free)
            if self.is_aligned(name)
            else METHODS[name]
            for name in ordered
        }

    def _matched(self, name: str, index: int | None, colours: list[str]) -> Method:
        """A matcher: the first of the study, or one of the others by its place among them."""
        aligned = METHODS[_ALIGNED]
        how = ", ".join(f"{key} {value}" for key, value in self.matchers[name].items())
        meaning = aligned.meaning.removesuffix(".") + (f" (matcher with {how})." if how else ".")
        if index is None:
            return aligned._replace(label=self.label(name), meaning=meaning)
        line, marker = _LINES[index // len(colours) % len(_LINES)], _MARKERS[index % len(_MARKERS)]
        return Method(self.label(name), colours[index % len(colours)], marker, meaning, line)

    @classmethod
    def matching(cls, names: Iterable[str]) -> Methods:
        """Of matchers about whose settings nothing is known."""
        return cls({name: {} for name in names})
