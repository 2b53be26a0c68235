"""What a study tells while it runs: a table on a terminal, lines in a file."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.study import launch
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launchers.launcher import Launcher, LauncherKind
from rebasin_lt.study.progress import StudyProgress
from rebasin_lt.study.stage import Stage
from rebasin_lt.study.state import State


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    times = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: times[-1])
    return times


def plan_of(count: int) -> dict[str, Stage]:
    stages = [Stage(f"seed={seed}/dense", "dense", 1, 10) for seed in range(count)]
    return {stage.path: stage for stage in stages}


def told(state: State, clock: list[float], seconds: float) -> None:
    """The stages of a study one after another, as a launcher does them."""
    with StudyProgress("digits", Path("out"), state) as progress:
        for path in state.plan:
            state.running[path] = clock[-1]
            progress.show(2)
            progress.show(2)  # a launcher looks often
            clock.append(clock[-1] + seconds)
            state.seconds[path] = clock[-1] - state.running.pop(path)
            state.done.add(path)
        progress.show(2)


def test_a_file_has_a_line_for_each_stage_with_the_time_left(capsys, clock):
    told(State(plan_of(3)), clock, 20.0)
    assert capsys.readouterr().err.splitlines() == [
        "out: 1/3 stages after 0:20, about 0:20 left: seed=0/dense took 0:20",
        "out: 2/3 stages after 0:40, about 0:10 left: seed=1/dense took 0:20",
        "out: 3/3 stages after 1:00: seed=2/dense took 0:20",
    ]


@pytest.mark.parametrize(("count", "lines"), [(25, 25), (26, 13), (1000, 25), (1001, 25)])
def test_many_stages_are_told_of_in_steps(capsys, clock, count, lines):
    told(State(plan_of(count)), clock, 1.0)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == lines
    assert said[-1].startswith(f"out: {count}/{count} stages")


def test_after_ten_minutes_of_silence_the_next_stage_is_told_of(capsys, clock):
    told(State(plan_of(100)), clock, 601.0)
    assert len(capsys.readouterr().err.splitlines()) == 100


def test_a_failure_says_why(capsys, clock):
    state = State(plan_of(2))
    with StudyProgress("digits", Path("out"), state) as progress:
        state.failed["seed=0/dense"] = "no memory"
        progress.show(1)
    assert capsys.readouterr().err == "out: 0/2 stages after 0:00, 1 failed: seed=0/dense failed: no memory\n"


def test_what_was_complete_before_is_said_at_the_beginning_alone(capsys, clock):
    plan = plan_of(2)
    state = State(plan, done={"seed=0/dense"})
    with StudyProgress("digits", Path("out"), state) as progress:
        progress.checks()
        progress.show(1)
        progress.runs(2, "local")
    assert capsys.readouterr().err.splitlines() == [
        "out: digits: 2 stages, 1 of them complete, 2 at a time (--launcher local); what stages print is in out/logs"
    ]


@pytest.mark.parametrize("patience", [0.01, 100.0])
def test_checks_that_take_long_are_told_of_and_others_leave_a_refusal_alone(capsys, monkeypatch, tmp_path, patience):
    def check(*_: object) -> None:
        time.sleep(0.3)
        raise InputError("there is no such data")

    monkeypatch.setattr("rebasin_lt.study.progress._PATIENCE", patience)
    monkeypatch.setattr("rebasin_lt.study.checks.check_study", check)
    with pytest.raises(InputError, match="no such data"):
        launch.complete_study(Study(title="digits", recipe=Recipe(), seeds=(0,)), tmp_path / "out", Launcher())
    assert ("settings and data are checked first" in capsys.readouterr().err) == (patience < 1)
    assert not (tmp_path / "out").exists()


def test_any_launcher_is_told_of(capsys, monkeypatch, tmp_path):
    def run(folder: Path, state: State, launcher: Launcher, show) -> None:
        state.done.update(state.plan)
        show(state)

    monkeypatch.setattr("rebasin_lt.study.checks.check_study", lambda *_: None)
    monkeypatch.setattr(launch, "LAUNCHERS", {"mine": LauncherKind("mine", run, count=lambda launcher: 7)})
    study = Study(title="digits", recipe=Recipe(), seeds=(0,))
    state = launch.complete_study(study, tmp_path / "out", Launcher("mine"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "7 at a time (--launcher mine)" in lines[0]
    assert f"{len(state.plan)}/{len(state.plan)} stages" in lines[1]


def test_a_terminal_has_a_table_and_no_lines(clock, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    state = State(plan_of(2))
    with StudyProgress("digits", Path("out"), state) as progress:
        progress.checks()
        assert "settings and data are checked first" in terminal.getvalue()
        progress.runs(2, "local")
        clock.append(1001.0)
        state.done.add("seed=0/dense")
        progress.show(2)
    assert "digits: 1 of 2 stages\n" in terminal.getvalue()
    assert "out:" not in terminal.getvalue()
