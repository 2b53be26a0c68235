"""Signals from the first import of a process to its end: 75 or 0, never the death that they are by default."""

from __future__ import annotations

import random
import shutil
import signal
import time

import pytest
from signal_moments import configure, signalled, start

from rebasin_lt.process.stop_request import Stopped, StopRequest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("signals")
    configure(place)
    return place


def test_the_first_import_and_the_last_moment_and_the_run_goes_on(folder):
    """Told when it begins, it stops before it trains; told when it ends, it is done."""
    assert signalled(folder, "rebasin_lt.cli") == 75
    assert "stopped by SIGUSR1 after step 0; the same command goes on from here" in (folder / "errors.txt").read_text()
    assert not (folder / "run" / "last.ckpt").exists()
    assert signalled(folder, "exit", signal.SIGTERM) == 0
    assert (folder / "run" / "last.ckpt").exists()
    assert signalled(folder, "exit") == 0  # a finished run, given again


@pytest.mark.parametrize("number", [pytest.param(signal.SIGUSR1, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_command_that_does_not_train_ends_at_once(folder, number):
    """Told in its imports, which are all that happens before it refuses what it was given."""
    assert signalled(folder, "rebasin_lt.cli", number, ("mask", "--mask", "no.mask", "--out", "x")) == 75
    line = f"stopped by {number.name}; the same command goes on from here"
    assert line in (folder / "errors.txt").read_text()


@pytest.mark.parametrize("module", ["worker", "task"])
def test_processes_of_a_study_have_their_handlers_before_their_imports(folder, module):
    """Told in the first import after them: it fails for want of arguments, and not by the signal."""
    assert (
        signalled(folder, "rebasin_lt.process.host_memory", module=f"rebasin_lt.study.launchers.{module}", arguments=())
        == 1
    )
    assert "Error" in (folder / "errors.txt").read_text()


def test_a_process_that_is_ours_holds_the_signals(monkeypatch):
    """Blocks neither take the handlers away nor forget what came before them; at once means outside of blocks."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    request = StopRequest()
    try:
        request.stop_at_once()  # not held: nothing
        request.hold()
        signal.raise_signal(signal.SIGUSR1)
        assert request.signal == "SIGUSR1"
        with request:
            assert request.signal == "SIGUSR1"
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            request.stop_at_once()
        with request:
            signal.raise_signal(signal.SIGUSR1)
        assert request.signal == "SIGUSR1"
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
        request.ignore()
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.slow
def test_random_moments_of_a_whole_run(folder):
    """30 moments, evenly over the life of a run and of the same command again, from its first import to its exit."""
    for stage, moments in (("a run", 15), ("the same again", 15)):
        shutil.rmtree(folder / "run", ignore_errors=True)
        lengths = []
        for _ in range(1 if stage == "a run" else 2):  # the second finds it finished
            process = start(folder)
            began = time.monotonic()
            assert process.wait(timeout=300) == 0
            lengths.append(time.monotonic() - began)
        generator, codes = random.Random(stage), []
        for _ in range(moments):
            if stage == "a run":
                shutil.rmtree(folder / "run", ignore_errors=True)
            process = start(folder, "rebasin_lt.process.stop_request")
            codes.append(_after_its_first_import(folder, process, generator.uniform(0, 1.1 * lengths[-1])))
        assert set(codes) <= {0, 75}, codes
        print(
            f"{stage}: {moments} moments of {lengths[-1]:.1f} s, {codes.count(75)} times 75, {codes.count(0)} times 0"
        )


def _after_its_first_import(folder, process, seconds: float) -> int:
    """Send the signal so long after the first import, if the process is still there."""
    while not (folder / "ready").exists():
        time.sleep(0.002)
    (folder / "ready").unlink()
    (folder / "sent").touch()
    time.sleep(0.15 + seconds)  # it sleeps itself, then has its handlers after a millisecond
    if process.poll() is None:
        process.send_signal(signal.SIGUSR1)
    code = process.wait(timeout=300)
    (folder / "sent").unlink()
    return code
