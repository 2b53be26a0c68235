"""`make gpu`: parts keep to their time, and what is done before the end, whenever that comes, is on the disk."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.running import Part, Setting, limit_of, run_parts

ROOT = Path(__file__).parents[2]
QUICK = """
import subprocess, sys, time
from pathlib import Path
from benchmarks.gpu.running import Part, Setting, run_parts

def child(setting):
    process = subprocess.Popen(["sleep", "100"])
    (setting.out / "pid").write_text(str(process.pid))
    time.sleep(100)

parts = [Part(f"part{number}", 1.0, lambda setting: time.sleep(0.05)) for number in range(20)]
run_parts([*parts, Part("child", 1.0, child)], Setting("cpu", Path(sys.argv[1]), "0123"), 60)
"""


def started(command: list[str], out: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [*command, str(out)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def check_kept(printed: str, out: Path) -> int:
    """Every file is whole, and every part that was said to be done has its file. Returns how many were."""
    for path in out.rglob("*.json"):
        json.loads(path.read_text())
    done = [line.split(":")[0] for line in printed.splitlines() if ": done" in line]
    assert all(json.loads((out / f"{name}.json").read_text())["outcome"] == "done" for name in done)
    return len(done)


def gone(pid: int) -> bool:
    """Within seconds, or it is none but a zombie that nobody has waited for."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(100):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_parts_that_end_fail_and_go_on_are_told_apart(tmp_path, capsys) -> None:
    def fails(setting: Setting) -> None:
        print("before it fails")
        raise ValueError("no such device")

    parts = [
        Part("told", 0.2, lambda setting: {"answer": 42}),
        Part("fails", 0.2, fails),
        Part("hangs", 0.05, lambda setting: time.sleep(100)),
        Part("last", 0.1, lambda setting: setting.ends - time.time()),
    ]
    outcomes = run_parts(parts, Setting("cuda:0", tmp_path, "0123"), 10)
    assert outcomes == {"told": "done", "fails": "failed", "hangs": "cut off", "last": "done"}
    told, fails_, hangs, last = (json.loads((tmp_path / f"{part.name}.json").read_text()) for part in parts)
    assert told["found"] == {"answer": 42}
    assert (told["device"], told["commit"]) == ("cuda:0", "0123")
    assert fails_["log"][-1] == "ValueError: no such device"
    assert (tmp_path / "fails.log").read_text().startswith("before it fails")
    assert hangs["outcome"] == "cut off"
    assert hangs["seconds"] < 5
    assert 3 < last["found"] < 10, "the last part has all the time that is left"
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == list(outcomes)


def test_parts_for_which_no_time_is_left_do_not_begin(tmp_path) -> None:
    part = Part("late", 1.0, lambda setting: None)
    assert run_parts([part], Setting("cpu", tmp_path, ""), 0) == {"late": "no time left"}
    assert not (tmp_path / "late.json").exists()


@pytest.mark.parametrize("toy", [False, True])
def test_every_part_begins_though_all_before_it_are_cut_off(toy) -> None:
    from benchmarks.gpu.parts import PARTS

    left = 120.0
    for part in PARTS[:-1]:
        left -= limit_of(part, left, 120.0, toy)
        assert left > 5


def test_the_time_begins_with_the_command(tmp_path, monkeypatch) -> None:
    given = []
    monkeypatch.setattr(gpu, "run_parts", lambda parts, setting, seconds: given.append(seconds) or {})
    monkeypatch.setattr(gpu, "_commit", lambda: time.sleep(0.2) or "0123")
    gpu.main(["--device", "cpu", "--seconds", "60", "--out", str(tmp_path)])
    assert given[0] < 59.8


def test_a_part_knows_the_device_by_its_name(tmp_path) -> None:
    parts = [Part("machine", 0.5, lambda setting: {"device": "a GPU"}), Part("other", 0.5, lambda setting: None)]
    run_parts(parts, Setting("cuda", tmp_path, ""), 20)
    assert json.loads((tmp_path / "other.json").read_text())["device"] == "a GPU"


@pytest.mark.parametrize("cut", [0.6, 1.3])
def test_what_is_done_outlasts_a_kill_and_nothing_goes_on(cut, tmp_path) -> None:
    out = tmp_path / "out"
    process = started([sys.executable, "-c", QUICK], out)
    time.sleep(cut)
    process.kill()
    printed = process.communicate()[0]
    check_kept(printed, out)


def test_what_a_part_has_started_ends_with_it(tmp_path) -> None:
    out = tmp_path / "out"
    process = started([sys.executable, "-c", QUICK], out)
    while not (out / "pid").exists() or not (out / "pid").read_text():
        time.sleep(0.05)
    process.kill()
    assert check_kept(process.communicate()[0], out) == 20
    assert gone(int((out / "pid").read_text()))


def test_an_interrupt_does_not_wait_for_the_part(tmp_path) -> None:
    out = tmp_path / "out"
    process = started(
        [sys.executable, "-c", "import signal; signal.signal(2, signal.default_int_handler)\n" + QUICK], out
    )
    while not (out / "pid").exists() or not (out / "pid").read_text():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert check_kept(process.communicate(timeout=30)[0], out) == 20
    assert gone(int((out / "pid").read_text()))


def test_a_part_that_is_not_known_is_refused(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["--device", "cpu", "--parts", "steps"])
    assert "part 'steps' is not known, expected machine, tests, step" in capsys.readouterr().err


@pytest.mark.slow
def test_ten_cuts_of_the_whole_command_at_any_second_lose_nothing(tmp_path) -> None:
    lots, kept = random.Random(0), []
    for number in range(10):
        out = tmp_path / str(number)
        command = [sys.executable, "-m", "benchmarks.gpu", "--seconds", "120", "--device", "pretended", "--out"]
        process = started(command, out)
        assert process.stdout is not None
        first = process.stdout.readline()  # when all is imported, which takes as long as the machine is busy
        time.sleep(lots.uniform(0, 45))
        process.send_signal(lots.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        kept.append(check_kept(first + process.communicate(timeout=60)[0], out))
    assert max(kept) > 2, "every cut came before anything was done"
