"""A constructor's arguments, and those that it hands on."""

from __future__ import annotations

from dataclasses import dataclass

from rebasin_lt.settings.signatures import arguments


class Base:
    def __init__(self, a: int, b: int = 2, *more: int, **rest: int) -> None: ...


class Plain(Base):
    def __init__(self, b: str, c: int = 3) -> None: ...


class Handing(Base):
    def __init__(self, b: str = "", **kwargs: int) -> None: ...


class Silent(Handing): ...


@dataclass
class Fields:
    x: int
    y: int = 0


def test_arguments_are_those_of_the_constructor() -> None:
    assert list(arguments(Base)) == ["a", "b"]
    assert list(arguments(Plain)) == ["b", "c"]
    assert list(arguments(Fields)) == ["x", "y"]
    assert list(arguments(object)) == []


def test_what_is_handed_on_is_the_next_class_s_but_for_what_is_said_anew() -> None:
    assert list(arguments(Handing)) == list(arguments(Silent)) == ["b", "a"]
    assert arguments(Silent)["b"].default == ""
