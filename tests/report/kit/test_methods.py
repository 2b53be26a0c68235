"""Methods of a study: the known ones in their order, its matchers in one place, each drawn in its own way."""

from __future__ import annotations

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.methods import METHODS, known_methods
from rebasin_lt.report.kit.methods import COLOURS, Methods, label_of

MATCHERS = Methods({"permuted": {}, "zebra": {"at": "5ep", "preset": "paper"}, "by_weights": {}})


def test_names_are_in_one_order_with_the_matchers_of_the_study_in_theirs() -> None:
    names = ["shuffled", "by_weights", "naive", "lth", "permuted", "zebra", "b_imp", "naive"]
    expected = ["lth", "b_imp", "permuted", "zebra", "by_weights", "naive", "shuffled"]
    assert MATCHERS.in_order(names) == MATCHERS.in_order(iter(names)) == expected
    assert list(MATCHERS.described(names)) == expected


def test_aligned_is_what_the_study_matches_whatever_it_is_called() -> None:
    assert all(MATCHERS.is_matched(name) for name in ("permuted", "zebra", "by_weights"))
    assert not any(MATCHERS.is_matched(name) for name in known_methods() if name != "permuted")
    other = Methods({"mix": {}})
    assert other.is_matched("mix")
    assert not other.is_matched("permuted")
    assert other.described(["mix"])["mix"] == METHODS["permuted"]._replace(label="mix")


def test_a_control_of_the_users_own_has_a_name_and_a_drawing_without_being_imported() -> None:
    own = ["no_such_module:by_row", "no_such_module:by_column"]
    found = MATCHERS.described(["naive", *own, "lth"])
    assert list(found) == ["lth", "naive", *own]
    assert [found[name].label for name in own] == [MATCHERS.label(name) for name in own] == ["by row", "by column"]
    assert "`no_such_module:by_row`" in found[own[0]].meaning
    assert len({(method.colour, method.marker) for method in found.values()}) == 4


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("b_magnitud", " (did you mean b_magnitude?)"),
        ("zebras", " (did you mean zebra?)"),
        ("permuted", ""),
        ("lht", " (did you mean lth?)"),
        ("x", ""),
    ],
)
def test_a_method_that_is_not_known_is_refused_with_the_near_one(name, hint) -> None:
    methods = Methods({"zebra": {}, "lion": {}})
    for ask in (methods.in_order, methods.described):
        with pytest.raises(InputError) as error:
            ask(["lth", name, "naive"])
        assert str(error.value).startswith(
            f"the method of a run of this study is {name!r}, which is not known{hint}: expected lth, b_imp, "
            "zebra, lion, naive, "
        )


def test_matchers_are_read_and_drawn_apart() -> None:
    names = ["permuted", *(f"permuted_{index}ep" for index in range(1, 9))]
    methods = Methods({name: {} for name in names})
    found = methods.described([*names, "naive"])
    assert label_of("permuted_5ep") == methods.label("permuted_5ep") == found["permuted_5ep"].label == "permuted 5ep"
    styles = {(method.colour, str(method.line)) for method in found.values()}
    assert len(styles) == len(names) + 1
    assert all(method.colour in COLOURS for method in found.values())


def test_a_method_with_signs_is_drawn_as_the_same_without_but_hollow_and_with_another_line() -> None:
    names = ["naive+mask", "zebra+own@2ep", "zebra+own", "naive", "zebra+mask", "zebra", "no_such:thing+mask"]
    found = MATCHERS.described(names)
    ordered = ["zebra", "zebra+mask", "zebra+own@2ep", "zebra+own", "naive", "naive+mask", "no_such:thing+mask"]
    assert list(found) == MATCHERS.in_order(names) == ordered
    assert [found[name].label for name in ordered] == [MATCHERS.label(name) for name in ordered]
    assert found["zebra+own@2ep"].label == "zebra + own signs of 2ep"
    assert found["zebra+own"].label == "zebra + own signs"
    assert found["no_such:thing+mask"].label == "thing + ticket's signs"
    assert {(found[name].colour, found[name].marker) for name in ordered[:4]} == {
        (found["zebra"].colour, found["zebra"].marker)
    }
    assert len({(str(found[name].line), found[name].fill) for name in ordered[:4]}) == 4
    assert [found[name].fill for name in ordered[:3]] == ["full", "none", "bottom"]
    assert "takes the sign that the mask carries" in found["naive+mask"].meaning
    assert all(MATCHERS.is_matched(name) for name in ordered[:4])
    assert label_of("lth+mask") == "LTH + ticket's signs"
    assert label_of("mine + x") == "mine + x"  # a name of the user's


def test_a_matcher_is_described_by_its_settings() -> None:
    found = MATCHERS.described(["permuted", "zebra"])
    same = "B's rewound weights under A's mask, permuted to match B's units"
    assert found["permuted"].meaning == f"{same}."
    assert found["zebra"].meaning == f"{same} (matcher with at 5ep, preset paper)."


def test_matchers_take_no_colour_of_a_method_that_is_there() -> None:
    found = MATCHERS.described(["zebra", "erk", "snip", "degree_preserving"])
    colours = [method.colour for method in found.values()]
    assert len(set(colours)) == len(colours)


def test_light_colours_are_distinct() -> None:
    """The dark ones replace them by value."""
    assert len({light for light, _ in COLOURS.values()}) == len(COLOURS)
