import os
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from rebasin_lt import __version__
from rebasin_lt.cli import LIGHTNING, main
from rebasin_lt.commands.spelling import spelled_out, with_underscores
from rebasin_lt.commands.table import COMMANDS
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.study.grid import Study


def test_dashes_and_underscores_are_alike_in_names_only():
    assert with_underscores(["--ckpt-a", "a-b", "--ckpt-b=x-y", "--", "--keep-this"]) == [
        "--ckpt_a",
        "a-b",
        "--ckpt_b=x-y",
        "--",
        "--keep-this",
    ]


def test_no_command_at_all_is_wrong_usage_in_one_line(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_lists_and_flags_are_written_as_people_do():
    types = {"masks": tuple[str, ...] | None, "json": bool, "out": str}
    written = ["--masks", "a", "b", "--json", "--out", "x", "--masks=c"]
    assert spelled_out(written, types) == ["--json=true", "--out", "x", '--masks=["a", "b", "c"]']
    assert spelled_out(["--json", "false"], types) == ["--json", "false"]
    assert spelled_out(['--masks=["a"]'], types) == ['--masks=["a"]']


def test_the_folder_of_a_report_needs_no_name(tmp_path, capsys):
    config = yaml.safe_dump(Study("none", Recipe(), seeds=[0]).primitives())
    (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
    assert main(["report", str(tmp_path)]) == 0
    assert f"report: {tmp_path / 'report' / 'report.html'}, " in capsys.readouterr().out
    assert main(["report", "--out", str(tmp_path / "other"), str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "other", "report"]


def test_a_report_inside_the_folder_of_its_study_does_not_stand_for_the_study(tmp_path, capsys):
    for title in ("first", "second"):
        config = yaml.safe_dump(Study(title, Recipe(), seeds=[0]).primitives())
        (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
        assert main(["report", str(tmp_path), "--out", str(tmp_path)]) == 0
        assert (tmp_path / "study.json").is_file()
        assert capsys.readouterr().out.startswith(f"{title}: ")


def test_numbers_in_lists_stay_what_they_are():
    types = {"seeds": Sequence[int], "widths": Sequence[float]}
    written = ["--seeds", "0", "10", "--widths", "1", "0.5"]
    assert spelled_out(written, types) == ["--seeds=[0, 10]", "--widths=[1, 0.5]"]


@pytest.mark.parametrize(
    ("command", "former", "present"),
    [
        ("permute", "mask", "masks"),
        ("permute", "alphas", "num_alphas"),
        ("permute", "n_images", "num_images"),
        ("barrier", "mask", "masks"),
        ("barrier", "alphas", "num_alphas"),
        ("barrier", "split", "splits"),
        ("barrier", "n_images", "num_images"),
        ("barrier", "n_test_images", "num_test_images"),
        ("landscape", "points", "num_points"),
        ("landscape", "n_images", "num_images"),
        ("landscape", "n_test_images", "num_test_images"),
        ("diversity", "ckpts", "checkpoints"),
        ("control", "n_images", "num_images"),
        ("mask", "other", "others"),
        ("demo", "seeds", "num_seeds"),
    ],
)
def test_an_option_of_an_earlier_release_is_answered_with_its_name_of_today(
    command, former, present, tmp_path, monkeypatch, capsys
):
    """On the command line, and in a file."""
    monkeypatch.chdir(tmp_path)
    assert main([command, f"--{former}", "3", "--out", "new"]) == 2
    dashed = f"--{former.replace('_', '-')} is now --{present.replace('_', '-')}"
    assert capsys.readouterr().err == f"rebasin-lt: error: {dashed}\n"
    (tmp_path / "old.yaml").write_text(f"out: new\n{former}: 3\n", encoding="utf-8")
    assert main([command, "--config", "old.yaml"]) == 2
    assert capsys.readouterr().err == f"rebasin-lt: error: {former} is now {present}\n"


def python(code):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)


def test_help_is_quick_and_loads_no_torch():
    code = """
import sys, time
begun = time.process_time()
from rebasin_lt.cli import main
try:
    main(["--help"])
except SystemExit as stop:
    assert not stop.code
print("modules", {"torch", "lightning", "torchvision", "matplotlib", "scipy"} & set(sys.modules))
print("seconds", time.process_time() - begun)
"""
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert "modules set()" in result.stdout
    for command in [*LIGHTNING, *COMMANDS]:
        assert f"    {command} " in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_commands_help_loads_no_torch(command):
    code = f"""
import sys
from rebasin_lt.cli import main
try:
    main(["{command}", "--help"])
except SystemExit as stop:
    assert not stop.code
assert not {{"torch", "lightning"}} & set(sys.modules)
"""
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"rebasin-lt {__version__}\n"
    root = Path(__file__).parents[1]
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (?!Unreleased)(.*)$", changes, re.MULTILINE)[1] == __version__
    assert f"\nversion: {__version__}\n" in (root / "CITATION.cff").read_text(encoding="utf-8")


def test_help_answers_at_once():
    """Under 0.3 s on an idle machine; the best of several starts, by the processor's time, with room for a busy one."""
    starts = []
    for _ in range(5):
        begun = resource.getrusage(resource.RUSAGE_CHILDREN)
        python("from rebasin_lt.cli import main; main(['--help'])")
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        starts.append(ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime)
    assert min(starts) < 0.6


class SIGTERMException(SystemExit):
    """As Lightning's, by name: importing its own would load torch."""


class OutOfMemoryError(RuntimeError):
    """As torch's."""


FULL = OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79 GiB.\nIf …")


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (KeyboardInterrupt(), "interrupted; the same command goes on from here", 130),
        (SIGTERMException(), "terminated; the same command goes on from here", 75),
        (InputError("a is 1, expected 2"), "a is 1, expected 2", 2),
        (
            FULL,
            "CUDA out of memory. Tried to allocate 20.00 GiB: set a smaller batch_size, or fewer runs at once "
            "(workers_per_gpu) (--debug shows where)",
            1,
        ),
    ],
)
def test_what_stops_a_run_is_one_line_and_a_code(monkeypatch, capsys, error, message, code):
    def stop(**_):
        raise error

    monkeypatch.setattr("rebasin_lt.cli._run_own", lambda _: stop())
    assert main(["demo"]) == code
    assert capsys.readouterr().err == f"rebasin-lt: error: {message}\n"


def test_interrupt_that_lightning_turned_into_an_exit_is_an_interrupt(monkeypatch, capsys):
    def stop(_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    monkeypatch.setattr("rebasin_lt.cli._run_own", stop)
    assert main(["demo"]) == 130
    assert "interrupted" in capsys.readouterr().err
