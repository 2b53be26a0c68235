import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.moment import Moment


@pytest.mark.parametrize("text", ["0it", "10ep", "500it"])
def test_moment_reads_what_it_writes(text):
    assert str(Moment.parse(text)) == text


@pytest.mark.parametrize("text", ["10", "ten", "-1ep", "1.5ep", "ep", "", "10 epochs"])
def test_moment_rejects_what_has_no_unit(text):
    with pytest.raises(InputError, match=r"moment .* is not understood: write epochs as '10ep' or steps as '500it'"):
        Moment.parse(text)


def test_moment_converts_between_steps_and_epochs():
    assert Moment.parse("3ep").steps(7) == 21
    assert Moment.parse("21it").steps(7) == 21
    assert Moment.parse("21it").epochs(7) == 3
    assert Moment.parse("10it").epochs(4) == 2.5
    assert Moment.parse("0it").steps(7) == Moment.parse("0ep").steps(7) == 0
