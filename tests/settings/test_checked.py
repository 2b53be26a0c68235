"""Settings that become arguments of a class: names and kinds are its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.settings.checked import check_settings

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Recording:
    path: str
    format: Literal["wav", "mp3"] = "wav"
    rate: float = 1.0
    channels: tuple[int, ...] = (1,)
    length: int | None = 3
    loud: bool = False


GOOD = [
    {},
    {"format": "mp3", "rate": 2},
    {"channels": [1, 2], "length": None},
    {"length": 3, "loud": True},
]
BAD = [
    (
        {"lenght": 3},
        "r has no setting 'lenght' (did you mean length?): expected some of format, rate, channels, length, lo",
    ),
    ({3: 3}, "r has no setting 3: expected some of format"),
    ({"path": "here"}, "r.path is set elsewhere in a study: leave it out"),
    ({"format": "ogg"}, "r.format is 'ogg', expected Literal['wav', 'mp3']"),
    ({"rate": "fast"}, "r.rate is 'fast', expected float"),
    ({"rate": None}, "r.rate is None, expected float"),
    ({"channels": 2}, "r.channels is 2, expected tuple[int, ...]"),
    ({"length": 2.5}, "r.length is 2.5, expected int | None"),
    ({"loud": "no"}, "r.loud is 'no', expected bool"),
    ({"rate": 2, "loud": 1}, "r.loud is 1, expected bool"),
]


@pytest.mark.parametrize("settings", GOOD, ids=str)
def test_what_fits_is_taken(settings) -> None:
    check_settings("r", Recording, settings, taken=["path"])


@pytest.mark.parametrize(("settings", "message"), BAD, ids=[message for _, message in BAD])
def test_what_does_not_fit_is_refused(settings, message) -> None:
    with pytest.raises(InputError) as error:
        check_settings("r", Recording, settings, taken=["path"])
    assert str(error.value).startswith(message)


def test_what_something_else_takes_is_offered_too() -> None:
    with pytest.raises(
        InputError, match=r"no setting 'batch_siz' \(did you mean batch_size\?\): .*, loud, batch_size$"
    ):
        check_settings("r", Recording, {"batch_siz": 3}, taken=["path"], also=["batch_size"])


class Handing(Recording):
    """As a user's class may hand on what it does not look at."""

    def __init__(self, place: Path | None = None, pitch=0, **kwargs) -> None:
        kwargs["rate"] = 2.0
        super().__init__("", **kwargs)


def test_what_is_handed_on_is_taken_and_refused_as_the_base_class_s() -> None:
    check_settings("r", Handing, {"format": "mp3", "pitch": "no"})
    check_settings("r", Handing, {"length": None, "pitch": None})
    with pytest.raises(InputError, match=r"r has no setting 'formt' \(did you mean format\?\)"):
        check_settings("r", Handing, {"formt": "mp3"})


class Checked:
    def __init__(self, size: int = 0, place: Path | None = None) -> None: ...


def test_types_that_only_a_type_checker_knows_are_named_as_they_are_written() -> None:
    with pytest.raises(InputError, match="r.size is 'big', expected int"):
        check_settings("r", Checked, {"size": "big"})
