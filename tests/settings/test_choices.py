"""A name that is not in a table is refused with the near one."""

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.settings.choices import check_known, chosen, near

FRUITS = {"apple": 1, "cherry": 2}


def test_a_known_name_gives_its_record():
    assert chosen("fruit", "apple", FRUITS) == 1
    check_known("fruit", "cherry", list(FRUITS))


def test_an_unknown_name_is_refused_with_the_near_one_and_all_there_are():
    with pytest.raises(
        InputError, match=r"^fruit is 'aple', which is not known \(did you mean apple\?\): expected apple, cherry$"
    ):
        chosen("fruit", "aple", FRUITS)


def test_without_a_near_one_and_with_what_else_there_is():
    with pytest.raises(InputError, match=r"^fruit is 'xxx', which is not known: expected apple, cherry, or your own$"):
        chosen("fruit", "xxx", FRUITS, others="or your own")


@pytest.mark.parametrize("name", [None, 3, ["apple"], {"apple": 1}])
def test_what_is_no_text_is_refused(name):
    with pytest.raises(InputError, match="fruit is .*, which is not known"):
        chosen("fruit", name, FRUITS)


def test_near_is_a_hint_or_nothing():
    assert near("cherri", FRUITS) == " (did you mean cherry?)"
    assert near("zzz", FRUITS) == ""
