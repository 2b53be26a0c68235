import io

import pytest

from rebasin_lt.process.progress_line import ProgressLine, time_left


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    times = iter(range(0, 1000, 10))
    monkeypatch.setattr("time.monotonic", lambda: next(times))


def test_time_left_reads_as_a_clock():
    assert [time_left(seconds) for seconds in (7, 750, 10921, -1)] == ["0:07", "12:30", "3:02:01", "0:00"]


def test_a_terminal_sees_the_rest_and_a_clean_line_at_the_end(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with ProgressLine("match") as progress:
        for done in range(3):
            progress("image", done, 4)
    assert "match: image 1/4, 0:30 left" in terminal.getvalue()
    assert "match: image 2/4, 0:20 left" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[2K")


def test_a_file_sees_nothing(monkeypatch, clock):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with ProgressLine("match") as progress:
        progress("image", 1, 4)
    assert log.getvalue() == ""
