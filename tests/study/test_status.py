"""The lines that show how a study stands, and the time that is left."""

from __future__ import annotations

import pytest

from rebasin_lt.study.stage import Stage
from rebasin_lt.study.state import State
from rebasin_lt.study.status import seconds_left, status_lines

PLAN = {
    stage.path: stage
    for stage in (
        Stage("w1/a", "dense", 1, 10),
        Stage("w1/b", "dense", 1, 10),
        Stage("w4/a", "dense", 4, 10),
        Stage("w1/match", "match", 1, needs=("w1/a", "w1/b")),
        Stage("w1/lth", "sparse", 1, 20, needs=("w1/a",)),
    )
}


@pytest.fixture
def now(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)


def test_counts_by_kind_and_what_is_running(now):
    state = State(PLAN, done={"w1/a"}, running={"w1/lth": 310.0}, failed={"w4/a": "no memory"})
    assert status_lines("digits", state, 2) == [
        "digits: 1 of 5 stages",
        "        stages  done  running  failed  waiting",
        "dense        3     1        0       1        1",
        "match        1     0        0       0        1",
        "sparse       1     0        1       0        0",
        "   11:30  w1/lth",
    ]


def test_time_left_is_per_epoch_of_the_kind_and_width(now):
    state = State(PLAN, done={"w1/a", "w1/match", "w4/a"}, seconds={"w1/a": 50.0, "w4/a": 800.0, "w1/match": 7.0})
    assert seconds_left(state, 1) is None  # no sparse run was seen yet
    state.done.add("w1/lth")
    assert seconds_left(state, 1) == pytest.approx(50)  # w1/b: 10 epochs at 5 s
    assert seconds_left(state, 2) == pytest.approx(25)
    assert status_lines("digits", state, 1)[0] == "digits: 4 of 5 stages, about 0:50 left"


def test_time_left_counts_what_a_running_stage_has_behind_it(now):
    done, seconds = {"w1/a", "w1/match", "w4/a", "w1/lth"}, {"w1/a": 50.0}
    assert seconds_left(State(PLAN, done, running={"w1/b": 970.0}, seconds=seconds), 1) == pytest.approx(20)
    assert seconds_left(State(PLAN, done, running={"w1/b": 100.0}, seconds=seconds), 1) == 0  # never less


def test_two_of_a_kind_are_averaged_over_their_epochs(now):
    plan = {**PLAN, "w1/c": Stage("w1/c", "dense", 1, 30)}
    done = set(plan) - {"w1/b"}
    assert seconds_left(State(plan, done, seconds={"w1/a": 50.0, "w1/c": 30.0}), 1) == pytest.approx(10 * 80 / 40)


def test_a_stage_that_failed_takes_no_more_time(now):
    state = State(PLAN, set(PLAN) - {"w1/b"}, failed={"w1/b": "no memory"})
    assert seconds_left(state, 1) == 0
