import os

import pytest

from rebasin_lt.errors import BrokenFileError, InputError, SymmetryError
from rebasin_lt.storage.run_folder import claim_folder, finish, finished, read_config, run_once
from rebasin_lt.storage.run_records import read_rows


def test_a_folder_is_recognised_by_the_run_that_made_it(tmp_path):
    config = {"a": 1, "deep": {"list": [1, 2]}, "tuple": (0.1,)}
    claim_folder(tmp_path / "run", config)
    claim_folder(tmp_path / "run", config)
    assert finished(tmp_path / "run") is None
    finish(tmp_path / "run", {"top1": 90.0})
    assert finished(tmp_path / "run") == {"top1": 90.0}


def test_another_run_is_refused_with_both_values(tmp_path):
    claim_folder(tmp_path / "run", {"deep": {"rate": 0.1}})
    with pytest.raises(InputError, match=r"holds another run: deep.rate is 0.1 there and 0.2 here"):
        claim_folder(tmp_path / "run", {"deep": {"rate": 0.2}})
    with pytest.raises(InputError, match=r"holds another run: extra is not set there and 1 here"):
        claim_folder(tmp_path / "run", {"deep": {"rate": 0.1}, "extra": 1})


def test_strange_folders_are_refused_untouched(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"output folder .* is a file"):
        claim_folder(tmp_path / "file", {})
    with pytest.raises(InputError, match=r"holds files but no config.yaml"):
        claim_folder(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "config.yaml").write_text("a: [1")
    with pytest.raises(BrokenFileError, match="config.yaml is not readable YAML"):
        claim_folder(tmp_path, {})
    (tmp_path / "config.yaml").write_text("- 1")
    with pytest.raises(BrokenFileError, match="config.yaml holds a list, expected settings by name"):
        claim_folder(tmp_path, {})
    (tmp_path / "result.json").write_text("[1]")
    with pytest.raises(BrokenFileError, match="result.json holds a list, expected results by name"):
        finished(tmp_path)
    (tmp_path / "result.json").write_text('{"format_version": 2}')
    with pytest.raises(BrokenFileError, match="result.json has format version 2, this release reads 1: update it"):
        finished(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(BrokenFileError, match="result.json is not readable JSON"):
        finished(tmp_path)


def test_a_result_that_was_changed_is_refused(tmp_path):
    result = {"loss": [0.1, float("inf")], "deep": {"pair": (1, None)}, 3: "three"}
    finish(tmp_path, result)
    assert finished(tmp_path) == {"loss": [0.1, None], "deep": {"pair": [1, None]}, "3": "three"}
    path = tmp_path / "result.json"
    text = path.read_text()
    for old, new in (("0.1", "0.2"), ("null", "0"), ('"deep"', '"dear"')):
        path.write_text(text.replace(old, new))
        with pytest.raises(BrokenFileError, match="result.json is damaged: its content does not match the hash"):
            finished(tmp_path)
    path.write_text('{"top1": 90.0}')  # of before there was a hash
    assert finished(tmp_path) == {"top1": 90.0}


@pytest.mark.parametrize("name", ["config.yaml", "result.json", "metrics.jsonl"])
def test_what_could_be_waited_for_for_ever_is_not_read(tmp_path, name):
    os.mkfifo(tmp_path / name)
    read = {"config.yaml": read_config, "metrics.jsonl": read_rows}.get(name, lambda path: finished(path.parent))
    with pytest.raises(BrokenFileError, match=f"{name} .*is not a regular file"):
        read(tmp_path / name)


def test_a_run_killed_in_its_first_write_leaves_a_folder_to_claim(tmp_path):
    (tmp_path / ".config.yaml.x1y2z3.tmp").write_text("a:")
    claim_folder(tmp_path, {"a": 1})
    claim_folder(tmp_path, {"a": 1})


@pytest.mark.parametrize("error", [InputError, BrokenFileError, SymmetryError])
@pytest.mark.parametrize("there", ["nothing", "a folder", "the run's own"])
def test_work_that_is_refused_leaves_the_folder_as_it_was(tmp_path, error, there):
    folder = tmp_path / "above" / "run"
    if there != "nothing":
        folder.mkdir(parents=True)
    if there == "the run's own":
        claim_folder(folder, {"a": 1}).release()
        (folder / "out.txt").write_text("of before")
    before = sorted(str(path) for path in tmp_path.rglob("*"))

    def refuse():
        (folder / "out.txt").write_text("half")
        raise error("no")

    with pytest.raises(error, match="no"):
        run_once(folder, {"a": 1}, refuse, outputs=["out.txt", "never.txt"])
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_work_that_dies_leaves_the_folder_to_go_on_from(tmp_path):
    with pytest.raises(ZeroDivisionError):
        run_once(tmp_path / "run", {"a": 1}, lambda: 1 // 0)
    assert (tmp_path / "run" / "config.yaml").exists()
