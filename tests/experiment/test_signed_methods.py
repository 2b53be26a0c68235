"""Methods with signs: how they are spelled, which there are, and which moments of B they need."""

from __future__ import annotations

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.controls import CONTROLS
from rebasin_lt.experiment.methods import control_methods, known_methods
from rebasin_lt.experiment.signed_methods import SignedMethod, check_signs, moments_of_b, read_method


@pytest.mark.parametrize("base", [*known_methods(), "early", "package.module:name"])
def test_a_method_is_read_with_its_signs(base) -> None:
    assert read_method(base) == SignedMethod(base)
    assert read_method(f"{base}+mask") == SignedMethod(base, "mask")
    assert read_method(f"{base}+own") == SignedMethod(base, "own", "final")
    assert read_method(f"{base}+own@2ep") == SignedMethod(base, "own", "2ep")
    assert read_method(f"{base}+own").weights == ("a" if base == "lth" else "b")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("permuted+", "whose signs are '': expected permuted"),
        ("permuted+maks", r"whose signs are 'maks' \(did you mean mask\?\): expected permuted\+mask, permuted\+own or"),
        ("permuted+mask@2ep", "whose signs are 'mask@2ep'"),
        ("permuted+own@", r"whose moment is '': write permuted\+own@2ep, or permuted\+own for the end"),
        ("permuted+own@final", "whose moment is 'final'"),
        ("permuted+own@2", "whose moment is '2'"),
    ],
)
def test_a_spelling_that_says_nothing_is_refused(name, message) -> None:
    with pytest.raises(InputError, match=message):
        read_method(name)


@pytest.mark.parametrize("name", control_methods())
def test_signs_of_a_mask_that_has_none_are_refused(name) -> None:
    check_signs(name)
    check_signs(f"{name}+own@1ep")
    if CONTROLS[control_methods()[name]].carries_signs:
        check_signs(f"{name}+mask")
    else:
        with pytest.raises(
            InputError, match=rf"but a mask of {name} carries no signs: expected {name}, or {name}\+own"
        ):
            check_signs(f"{name}+mask")


def test_which_controls_carry_signs() -> None:
    carried = {name for name, kind in CONTROLS.items() if kind.carries_signs}
    assert carried == {"magnitude", "random_permutation", "shuffled", "mix"}
    check_signs("package.module:name+mask")  # who knows


@pytest.mark.parametrize(
    ("name", "moments"),
    [
        ("lth", ()),
        ("lth+own@5ep", ()),
        ("naive", ("1ep",)),
        ("naive+mask", ("1ep",)),
        ("early+mask", ("1ep", "2ep")),
        ("early+own@5ep", ("1ep", "2ep", "5ep")),
        ("permuted", ("1ep", "final")),
        ("random_permutation+own@1ep", ("1ep",)),
        ("snip", ("1ep",)),
        ("b_magnitude+mask", ("1ep", "final")),
        ("b_imp", ("1ep", "final")),
        ("naive+own", ("1ep", "final")),
        ("package.module:name", ("1ep",)),
        ("dense", ("final",)),
        ("imp", ("final",)),
    ],
)
def test_what_a_method_needs_of_b(name, moments) -> None:
    assert moments_of_b(name, "1ep", {"early": {"at": "2ep"}, "permuted": {}}) == moments
