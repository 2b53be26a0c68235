"""The ledger counts what is done and what is in all."""

from __future__ import annotations

from rebasin_lt.report.study.ledger import ledger_table, progress_text, stages_table

STAGES = [
    {"kind": "dense", "path": "width=1/a", "epochs": 20, "images": 20_000, "done": True},
    {"kind": "dense", "path": "width=1/b", "epochs": 20, "images": 20_000, "done": False},
    {"kind": "random_permutation", "path": "width=1/c", "epochs": 0, "images": None, "done": True},
]


def test_kinds_are_summed_done_and_in_all() -> None:
    assert ledger_table(STAGES).rows == [
        ["dense", 1, 2, "20", "40", "20,000", "40,000"],
        ["random permutation", 1, 1, "0", "0", "0", "0"],
        ["all", 2, 3, "20", "40", "20,000", "40,000"],
    ]
    assert progress_text(STAGES) == "2 of 3 stages"


def test_examples_whose_number_is_not_known_are_not_counted_as_none() -> None:
    """Of data of the user's own; a stage that trains nothing sees none, whatever the data."""
    unknown = [{**stage, "images": None} for stage in STAGES]
    assert [row[-2:] for row in ledger_table(unknown).rows] == [[None, None], ["0", "0"], [None, None]]
    assert [column.title for column in ledger_table(unknown).columns][-2:] == ["examples done", "examples in all"]


def test_stages_are_written_as_they_are() -> None:
    assert stages_table(STAGES).to_csv().splitlines()[:2] == [
        "kind,path,epochs,images,done",
        "dense,width=1/a,20,20000,True",
    ]
