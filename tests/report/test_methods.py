"""Names of methods: the known ones in their order, the users' own beside `permuted`, each drawn in its own way."""

from __future__ import annotations

from rebasin_lt.report.methods import COLOURS, METHODS, in_order, is_aligned, label_of, methods_of
from rebasin_lt.study.control_kinds import KINDS


def test_names_are_in_one_order_with_the_users_own_behind_permuted() -> None:
    names = ["shuffled", "permuted_paper", "naive", "lth", "permuted", "permuted_5ep", "b_imp", "naive"]
    expected = ["lth", "b_imp", "permuted", "permuted_5ep", "permuted_paper", "naive", "shuffled"]
    assert in_order(names) == expected
    assert list(methods_of(names)) == expected


def test_all_kinds_of_controls_have_a_name() -> None:
    assert set(KINDS) <= set(METHODS)
    assert not any(is_aligned(name) for name in METHODS if name != "permuted")
    assert is_aligned("permuted")
    assert is_aligned("by_weights")


def test_unknown_names_are_read_and_drawn_apart() -> None:
    names = ["permuted", "naive", *(f"permuted_{index}ep" for index in range(1, 9))]
    found = methods_of(names)
    assert label_of("permuted_5ep") == found["permuted_5ep"].label == "permuted 5ep"
    styles = {(method.colour, str(method.line)) for method in found.values()}
    assert len(styles) == len(names)
    assert all(method.colour in COLOURS for method in found.values())
    assert "matcher" in found["permuted_5ep"].meaning


def test_unknown_names_take_no_colour_of_a_method_that_is_there() -> None:
    found = methods_of(["permuted_5ep", "mix", "snip", "degree_preserving"])
    colours = [method.colour for method in found.values()]
    assert len(set(colours)) == len(colours)


def test_light_colours_are_distinct() -> None:
    """The dark ones replace them by value."""
    assert len({light for light, _ in COLOURS.values()}) == len(COLOURS)
