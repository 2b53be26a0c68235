import pytest

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.run_folder import claim_folder, finish, finished


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
    with pytest.raises(InputError, match=r"holds another run: extra is None there and 1 here"):
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
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(BrokenFileError, match="result.json is not readable JSON"):
        finished(tmp_path)


def test_a_run_killed_in_its_first_write_leaves_a_folder_to_claim(tmp_path):
    (tmp_path / ".config.yaml.x1y2z3.tmp").write_text("a:")
    claim_folder(tmp_path, {"a": 1})
    claim_folder(tmp_path, {"a": 1})
