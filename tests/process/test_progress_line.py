import io
from types import SimpleNamespace

import pytest

from rebasin_lt.process.progress_line import ProgressLine, StatusTable, time_left


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(
        "rebasin_lt.process.progress_line.sys", SimpleNamespace(stderr=terminal)
    )  # sys.stderr itself is pytest's
    monkeypatch.setenv("COLUMNS", "40")
    return terminal


@pytest.fixture
def clock(monkeypatch):
    times = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: times[-1])
    return times


def screen(text):
    """The lines that a terminal shows after `text`: line breaks, and `\\x1b[nA\\x1b[J`, which removes n lines."""
    lines = [""]
    while text:
        if text.startswith("\x1b["):
            count, _, text = text[2:].partition("A\x1b[J")
            lines[-1 - int(count) :] = [""]
        else:
            part, text = text[0], text[1:]
            lines = [*lines, ""] if part == "\n" else [*lines[:-1], lines[-1] + part]
    return lines[:-1]


def test_lines_stay_in_place_and_are_gone_at_the_end(terminal, clock):
    terminal.write("before\n")
    with StatusTable() as table:
        table(["1 of 9", "dense 1"])
        assert screen(terminal.getvalue()) == ["before", "1 of 9", "dense 1"]
        clock.append(101.0)
        table(["2 of 9", "dense 1", "imp 1"])
        assert screen(terminal.getvalue()) == ["before", "2 of 9", "dense 1", "imp 1"]
        clock.append(102.0)
        table(["3 of 9"])
        assert screen(terminal.getvalue()) == ["before", "3 of 9"]
    assert screen(terminal.getvalue()) == ["before"]


def test_it_redraws_at_most_five_times_a_second(terminal, clock):
    with StatusTable() as table:
        for number in range(100):
            clock.append(100 + number / 50)  # two seconds
            table([f"{number}"])
        drawn = terminal.getvalue().count("\n")
    assert 9 <= drawn <= 11


def test_a_line_is_cut_at_the_width_of_the_terminal(terminal, clock):
    with StatusTable() as table:
        table(["x" * 80])
        assert screen(terminal.getvalue()) == ["x" * 39]  # one less: a full line would wrap


def test_lines_are_removed_before_an_error_is_shown(terminal, clock):
    def interrupted():
        with StatusTable() as table:
            table(["1 of 9"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "1 of 9" in terminal.getvalue()
    assert screen(terminal.getvalue()) == []


def test_time_left_reads_as_a_clock():
    assert [time_left(seconds) for seconds in (7, 750, 10921, -1)] == ["0:07", "12:30", "3:02:01", "0:00"]


def test_a_terminal_sees_the_rest_and_a_clean_line_at_the_end(terminal, clock):
    with ProgressLine("match") as progress:
        for done in range(3):
            clock.append(200.0 + 10 * done)
            progress("image", done, 4)
            if done:
                assert screen(terminal.getvalue()) == [f"match: image {done}/4, 0:{10 * (4 - done)} left"]
    assert screen(terminal.getvalue()) == []


def test_a_file_sees_nothing(monkeypatch, clock):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with ProgressLine("match") as progress, StatusTable() as table:
        progress("image", 1, 4)
        table(["1 of 9"])
    assert log.getvalue() == ""
