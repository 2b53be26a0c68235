"""What may begin, what is stuck, and what a folder says is done."""

from __future__ import annotations

import pytest

from rebasin_lt.storage import run_folder
from rebasin_lt.study.record import record, taken
from rebasin_lt.study.stage import Stage
from rebasin_lt.study.state import State

PLAN = {
    path: Stage(path, "dense", 1, needs=needs, outputs=("out",), inputs=tuple(f"{need}/out" for need in needs))
    for path, needs in {"a": (), "b": (), "imp": ("a",), "match": ("a", "b", "imp"), "lth": ("a", "imp")}.items()
}


def ready(state):
    return [stage.path for stage in state.ready()]


def finish(folder, path):
    """The stage is done, with an output of its own; its result says what it was made from."""
    stage = PLAN[path]
    (folder / path).mkdir(exist_ok=True)
    (folder / path / "out").write_text(path)
    run_folder.finish(folder / path, {})
    record(folder, stage, taken(folder, stage))


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
    ("there", "done"),
    [
        ((), set()),
        (("a", "b"), {"a", "b"}),
        (tuple(PLAN), set(PLAN)),
        (("a", "imp", "match", "lth"), {"a", "imp", "lth"}),  # b is not there, and match is made from it
    ],
)
def test_what_a_folder_has_done(tmp_path, there, done):
    for path in there:
        finish(tmp_path, path)
    state = State.of(PLAN, tmp_path)
    assert state.done == done
    assert (state.running, state.failed) == ({}, {})


def test_what_was_made_from_something_else_is_not_done_until_it_is_looked_at(tmp_path):
    for path in PLAN:
        finish(tmp_path, path)
    (tmp_path / "a/out").write_text("b")
    assert State.of(PLAN, tmp_path).done == {"b"}
    for path in ("a", "imp"):
        record(tmp_path, PLAN[path], taken(tmp_path, PLAN[path]))
    assert State.of(PLAN, tmp_path).done == {"a", "b", "imp"}


def test_results_that_do_not_say_what_they_were_made_from_count_for_whoever_only_looks(tmp_path):
    for path in PLAN:
        finish(tmp_path, path)
    for path in ("a", "lth"):
        run_folder.finish(tmp_path / path, {})
    assert State.of(PLAN, tmp_path).done == {"b"}
    assert State.of(PLAN, tmp_path, unsaid=True).done == set(PLAN)
    (tmp_path / "a/out").unlink()
    assert State.of(PLAN, tmp_path, unsaid=True).done == {"b"}
