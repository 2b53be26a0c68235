"""Methods whose weights begin with given signs: `METHOD+mask` and `METHOD+own[@MOMENT]`, read in this one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.controls import CONTROLS
from rebasin_lt.experiment.methods import ENSEMBLES, METHODS, fixed_methods, kind_of_control
from rebasin_lt.moment import END, Moment
from rebasin_lt.settings.choices import near
from rebasin_lt.settings.user_code import is_user_code


class SignsRecord(NamedTuple):
    """Signs that sparse training may begin with: how people read them behind a method, and how figures draw them."""

    label: str
    meaning: str
    lines: tuple[Any, ...]  # of one method at several moments, in turn
    fill: Literal["none", "bottom"]  # of the marker


SIGNS: dict[str, SignsRecord] = {
    "mask": SignsRecord(
        "ticket's signs",
        "before the first step, every kept weight takes the sign that the mask carries: that of the weight for which "
        "it was kept, of A's ticket in general, moved with it.",
        ((0, (5, 2)),),
        "none",
    ),
    "own": SignsRecord(
        "own signs",
        "before the first step, every kept weight takes the sign that it has in the same network at a moment of its "
        "dense training, `own@MOMENT`, or at the end.",
        ((0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)), (0, (3, 1, 1, 1, 1, 1))),
        "bottom",
    ),
}
"""What may stand behind `+`, in the order of tables and figures."""


class SignedMethod(NamedTuple):
    """A method of a study as it is spelled: how its mask is made, and the signs that its weights begin with.

    >>> read_method("permuted+own@2ep")
    SignedMethod(base='permuted', signs='own', moment='2ep')
    >>> read_method("naive")
    SignedMethod(base='naive', signs='none', moment=None)
    """

    base: str
    signs: Literal["none", "mask", "own"] = "none"
    moment: str | None = None  # of own signs; `END` for those of the trained network

    @property
    def weights(self) -> Literal["a", "b"]:
        """The network that is rewound and trained, and whose own signs these are."""
        return METHODS[self.base].weights if self.base in METHODS else "b"

    @property
    def takes_signs_of_a(self) -> bool:
        """Whether the signs are those that A's mask carries, which must be a signed one."""
        kind, fixed = kind_of_control(self.base), fixed_methods().get(self.base)
        of_b = fixed is not None and fixed.mask == "b"
        return self.signs == "mask" and not of_b and (kind is None or "mask" in _needs(kind))

    @property
    def label(self) -> str:
        """What stands behind the label of the method; empty where it has no signs."""
        if self.signs == "none":
            return ""
        return f" + {SIGNS[self.signs].label}" + (f" of {self.moment}" if self.moment not in {None, END} else "")

    @property
    def meaning(self) -> str:
        """What is said behind the meaning of the method."""
        if self.signs == "none":
            return ""
        at = f" Here: of {'the trained network' if self.moment == END else self.moment}." if self.moment else ""
        return f" With {SIGNS[self.signs].label}: {SIGNS[self.signs].meaning}{at}"


def read_method(name: str) -> SignedMethod:
    """A method from its spelling, whether its base is known or not.

    Raises InputError for signs that are not known, and for a moment that is none.
    """
    base, plus, said = name.partition("+")
    signs, at, moment = said.partition("@")
    if not plus:
        return SignedMethod(name)
    if signs == "mask" and not at:
        return SignedMethod(base, "mask")
    if signs == "own" and not at:
        return SignedMethod(base, "own", END)
    if signs != "own":
        expected = f"expected {base}+mask, {base}+own or {base}+own@MOMENT"
        raise InputError(f"one of methods is {name!r}, whose signs are {said!r}{near(said, SIGNS)}: {expected}")
    if not Moment.is_one(moment):
        raise InputError(
            f"one of methods is {name!r}, whose moment is {moment!r}: write {base}+own@2ep, or {base}+own for the end"
        )
    return SignedMethod(base, "own", moment)


def check_signs(name: str) -> None:
    """Raise InputError for a method that takes its signs from a mask which surely carries none."""
    method = read_method(name)
    kind = kind_of_control(method.base)
    if method.signs == "mask" and kind is not None and not is_user_code(kind) and not CONTROLS[kind].carries_signs:
        raise InputError(
            f"one of methods is {name!r}, but a mask of {method.base} carries no signs: expected {method.base}, or "
            f"{method.base}+own for the signs of B"
        )


def _needs(kind: str) -> tuple[str, ...]:
    """What a kind of control is made from; nothing is known of one of the user's own."""
    return CONTROLS[kind].needs if kind in CONTROLS else ()


def moments_of_b(name: str, rewind: str, matchers: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """The moments of B's dense training that one run of a method needs; `END` is the trained network.

    `dense` and `imp` are B itself and its own ticket, as ensembles compare them.

    >>> moments_of_b("permuted+own@5ep", "2ep", {"permuted": {"at": "1ep"}})
    ('2ep', '1ep', '5ep')
    >>> moments_of_b("b_magnitude", "2ep", {})
    ('2ep', 'final')
    >>> moments_of_b("lth+own", "2ep", {})
    ()
    """
    if name in ENSEMBLES:
        return (END,)
    method = read_method(name)
    if method.weights == "a":
        return ()
    needed = [rewind]
    if method.base in matchers:
        needed.append(matchers[method.base].get("at", END))
    kind, fixed = kind_of_control(method.base), fixed_methods().get(method.base)
    if (kind in CONTROLS and CONTROLS[kind].weights == "trained") or (fixed is not None and fixed.mask == "b"):
        needed.append(END)
    if method.signs == "own" and method.moment is not None:
        needed.append(method.moment)
    return tuple(dict.fromkeys(needed))
