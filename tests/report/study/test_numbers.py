"""A study's numbers, written and read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from rebasin_lt.cli import main
from rebasin_lt.errors import BrokenFileError
from rebasin_lt.report.study.numbers import STUDY, read_numbers, write_numbers
from rebasin_lt.report.study.sections import write_study_report
from rebasin_lt.study.outcome import StudyOutcome

NAMES = ["study.json", "accuracy.csv", "barriers.csv", "curves.csv", "overlap.csv", "diversity.csv", "prices.csv"]
NAMES += ["ledger.csv"]


@pytest.fixture(scope="module")
def outcome(make_outcome) -> StudyOutcome:
    return make_outcome(
        seeds=(0, 1), rewinds=("0it", "20ep"), methods=("lth", "permuted", "permuted_paper", "naive", "erk")
    )


@pytest.fixture
def folder(outcome, tmp_path) -> Path:
    assert [path.name for path in write_numbers(outcome, tmp_path / "numbers")] == NAMES
    return tmp_path / "numbers"


def test_what_is_read_is_what_was_written(outcome, folder) -> None:
    read = read_numbers(folder)
    assert (read.title, read.settings) == (outcome.title, outcome.settings)
    for name in ("stages", "dense", "pruned", "sparse", "barriers", "diversity", "prices"):
        assert getattr(read, name) == getattr(outcome, name), name
    assert [match | {"objective": {}, "sizes": {}} for match in outcome.matches] == read.matches


def test_the_report_of_a_reports_numbers_is_the_same_byte_for_byte(outcome, tmp_path, capsys) -> None:
    paths = write_study_report(outcome, tmp_path / "report")
    main(["report", str(tmp_path / "report"), "--out", str(tmp_path / "again")])
    assert "A study that never ran: " in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == sorted(path.name for path in paths)
    for path in paths:
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("name", "damage", "error"),
    [
        ("accuracy.csv", lambda text: text.replace("top1", "best"), "there is no column top1"),
        ("accuracy.csv", lambda text: text + "sparse,1.0\n", "another number of fields than the head"),
        ("accuracy.csv", lambda text: text + "sparse,one,0,,lth,.9,0it,.5,\n", "could not convert string to float"),
        ("accuracy.csv", lambda text: text + "sparse,1.0,,,lth,.9,0it,.5,\n", r"line \d+ has no seed"),
        ("accuracy.csv", lambda text: text + "sparse,1.0,9,,lth,,0it,.5,\n", "a row of sparse has no sparsity"),
        ("accuracy.csv", lambda text: text + "sparse,1.0,9,,lth,.9,,.5,\n", "a row of sparse has no rewind"),
        ("accuracy.csv", lambda text: text + "pruned,1.0,9,a,,,,.5,\n", "a row of pruned has no sparsity"),
        ("accuracy.csv", lambda text: text + "spare,1.0,9,,lth,.9,0it,.5,\n", "there is no stage 'spare'"),
        ("barriers.csv", lambda text: "", "there is no column width"),
        ("barriers.csv", lambda text: text + "1.0,9,permuted,test,none,after,,\n", "has no loss_barrier"),
        ("curves.csv", lambda text: text[: text.rindex("\n", 0, -1) + 1], "does not hold all points of the line width"),
        ("curves.csv", lambda text: text.splitlines()[0], "does not hold all points of the line width"),
        ("ledger.csv", lambda text: text.replace("True", "perhaps"), "'perhaps'"),
        ("study.json", lambda text: "[]", "does not hold the title and settings of a study"),
        ("study.json", lambda text: "{", "does not hold the title and settings of a study"),
        ("study.json", lambda text: '{"title": "", "settings": {"recipe": 3}}', "'int' object has no attribute 'get'"),
    ],
)
def test_a_damaged_file_is_named(folder, name, damage, error) -> None:
    path = folder / name
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(BrokenFileError, match=error) as raised:
        read_numbers(folder)
    assert str(path) in str(raised.value)


def test_a_lost_file_is_named(folder) -> None:
    (folder / "curves.csv").unlink()
    with pytest.raises(BrokenFileError, match=r"curves\.csv does not hold what a report writes: .*No such file"):
        read_numbers(folder)
    assert (folder / STUDY).exists()
