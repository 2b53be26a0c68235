"""What may begin, what is stuck, and what a folder says is done."""

from __future__ import annotations

import os

import pytest

from rebasin_lt.study.plan import Stage
from rebasin_lt.study.state import State

PLAN = {
    path: Stage(path, "dense", 1, needs=needs)
    for path, needs in {"a": (), "b": (), "imp": ("a",), "match": ("a", "b", "imp"), "lth": ("a", "imp")}.items()
}


def ready(state):
    return [stage.path for stage in state.ready()]


def finish(folder, path, second):
    (folder / path).mkdir(exist_ok=True)
    result = folder / path / "result.json"
    result.write_text("{}")
    os.utime(result, (second, second))


def test_stages_begin_in_the_order_of_the_plan_when_what_they_need_is_done():
    state = State(PLAN)
    assert ready(state) == ["a", "b"]
    state.running["a"] = 0.0
    assert ready(state) == ["b"]
    state.done.add("a")
    del state.running["a"]
    assert ready(state) == ["b", "imp"]
    state.done |= {"b", "imp"}
    assert ready(state) == ["match", "lth"]
    assert not state.is_over
    state.done |= {"match", "lth"}
    assert ready(state) == []
    assert state.is_over


def test_a_failure_stops_only_what_needs_it():
    state = State(PLAN, done={"a", "imp"}, failed={"b": "no disk"})
    assert ready(state) == ["lth"]
    assert state.blocked == ["match"]
    state = State(PLAN, failed={"a": "no disk"})
    assert ready(state) == ["b"]
    assert state.blocked == ["imp", "match", "lth"]  # lth and match through imp too
    state.done.add("b")
    assert state.is_over


def test_what_is_done_already_is_not_blocked():
    assert State(PLAN, done={"lth"}, failed={"a": "no disk"}).blocked == ["imp", "match"]


def test_a_study_is_not_over_while_something_runs():
    state = State(PLAN, done={"a", "b", "imp", "match"}, running={"lth": 0.0})
    assert ready(state) == []
    assert not state.is_over


@pytest.mark.parametrize(
    ("times", "done"),
    [
        ({}, set()),
        ({"a": 1, "b": 2}, {"a", "b"}),
        ({"a": 1, "b": 1, "imp": 2, "match": 3, "lth": 3}, set(PLAN)),
        ({"a": 1, "imp": 2, "match": 3, "lth": 3}, {"a", "imp", "lth"}),  # b is gone, and match was made from it
        ({"a": 9, "b": 1, "imp": 2, "match": 3, "lth": 10}, {"a", "b"}),  # imp was made from another a
    ],
)
def test_what_a_folder_has_done(tmp_path, times, done):
    for path, second in times.items():
        finish(tmp_path, path, second)
    state = State.of(PLAN, tmp_path)
    assert state.done == done
    assert (state.running, state.failed) == ({}, {})
