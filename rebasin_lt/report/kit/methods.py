"""The ways to obtain a sparse network: what they are called, what they are, and how they are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.methods import ENSEMBLES, MATCHED, METHODS, Method, known_methods, own_method
from rebasin_lt.experiment.signed_methods import SIGNS, SignedMethod, read_method
from rebasin_lt.settings.choices import check_known
from rebasin_lt.settings.user_code import is_user_code

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


def spelled(name: str) -> str:
    """A name of the user's as people read it: `permuted_5ep` is "permuted 5ep"."""
    return name.replace("_", " ")


def has_label(name: str) -> bool:
    """Whether a name is that of a method, with signs or without, or of a setting of ensembles, that has a label."""
    try:
        return name in ENSEMBLES or read_method(name).base in known_methods()
    except InputError:  # a name of the user's may hold any sign
        return False


def label_of(name: str) -> str:
    """What tables and figures call a method, or a setting of ensembles; of any other name, the name as it is read."""
    return Methods({}).label(name) if has_label(name) else spelled(name)


@dataclass(frozen=True)
class Methods:
    """The methods of a study: its matchers, by name with their settings, and those of `METHODS`.

    What a method is follows from the settings alone: a matcher's name may be any, and tells nothing.
    """

    matchers: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {MATCHED: {}})

    def is_matched(self, name: str) -> bool:
        """Whether the mask is A's, moved by a permutation that was matched: whether it is one of the matchers."""
        return read_method(name).base in self.matchers

    def label(self, name: str) -> str:
        """What tables and figures call a method, or a setting of ensembles."""
        if name in ENSEMBLES:
            return ENSEMBLES[name].label
        method = read_method(name)
        return f"{self._label_of_base(method.base)}{method.label}"

    def _label_of_base(self, base: str) -> str:
        if is_user_code(base):
            return own_method(base).label
        known = {} if base in self.matchers else known_methods()
        return known[base].label if base in known else spelled(base)

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Each name once, as in `METHODS`; matchers in the order of the study, in the place of `permuted`.

        One with signs comes after the same without, those of the ticket first. Raises InputError, with the near name,
        for one that is neither.
        """
        signed = {name: read_method(name) for name in dict.fromkeys(names)}
        bases = self._in_order([method.base for method in signed.values()])
        signs = ["none", *SIGNS]  # of one kind in the order in which they come
        return sorted(signed, key=lambda name: (bases.index(signed[name].base), signs.index(signed[name].signs)))

    def _in_order(self, bases: Iterable[str]) -> list[str]:
        names, known = dict.fromkeys(bases), list(known_methods())
        at = known.index(MATCHED)
        order = [*known[:at], *self.matchers, *known[at + 1 :], *filter(is_user_code, names)]
        for name in names:
            check_known("the method of a run of this study", name, order)
        return sorted(names, key=order.index)

    def described(self, names: Iterable[str]) -> dict[str, Method]:
        """The methods in their order; the study's first matcher is drawn as `permuted` is, its others in colours that
        the methods here leave, then dashed. One with signs has the colour and the marker of the same without, hollow
        or half filled, and another line. Raises as `in_order`."""
        signed = {name: read_method(name) for name in self.in_order(names)}
        bases = self._bases([method.base for method in signed.values()])
        found: dict[str, Method] = {}
        for name, method in signed.items():
            earlier = [each for each in found if signed[each][:2] == method[:2]]
            found[name] = _with_signs(bases[method.base], method, len(earlier))
        return found

    def _bases(self, names: Iterable[str]) -> dict[str, Method]:
        ordered, first, known = self._in_order(names), next(iter(self.matchers), None), known_methods()
        added = [name for name in ordered if name != first and (self.is_matched(name) or is_user_code(name))]
        taken = {known[name].colour for name in ordered if name in known and not self.is_matched(name)}
        free = [colour for colour in COLOURS if colour.startswith("other_") and colour not in taken] or ["other_1"]
        return {
            name: _drawn_apart(self._own(name), added.index(name), free)
            if name in added
            else (self._own(name) if self.is_matched(name) else known[name])
            for name in ordered
        }

    def _own(self, name: str) -> Method:
        """A matcher of the study, or a control of the user's own, drawn as the first of its kind."""
        if not self.is_matched(name):
            return own_method(name)
        how = ", ".join(f"{key} {value}" for key, value in self.matchers[name].items())
        meaning = METHODS[MATCHED].meaning.removesuffix(".") + (f" (matcher with {how})." if how else ".")
        return METHODS[MATCHED]._replace(label=self.label(name), meaning=meaning)

    @classmethod
    def matching(cls, names: Iterable[str]) -> Methods:
        """Of matchers about whose settings nothing is known."""
        return cls({name: {} for name in names})


def _with_signs(method: Method, signed: SignedMethod, index: int) -> Method:
    """A method with signs, by its place among those that have the same at other moments; without any, as it is."""
    if signed.signs == "none":
        return method
    signs = SIGNS[signed.signs]
    return method._replace(
        label=method.label + signed.label,
        meaning=method.meaning + signed.meaning,
        line=signs.lines[index % len(signs.lines)],
        fill=signs.fill,
    )


def _drawn_apart(method: Method, index: int, colours: list[str]) -> Method:
    """The method in a colour, a marker and a kind of line by its place among those that have none of their own."""
    line, marker = _LINES[index // len(colours) % len(_LINES)], _MARKERS[index % len(_MARKERS)]
    return method._replace(colour=colours[index % len(colours)], marker=marker, line=line)
