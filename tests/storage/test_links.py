"""What is written into a folder stays in it, whatever links a stranger has put there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.storage.files import append_text, write_text
from rebasin_lt.storage.links import check_inside, check_links
from rebasin_lt.storage.run_folder import claim_folder
from rebasin_lt.storage.run_records import METRICS_FILE
from rebasin_lt.study.folder import claim_study
from rebasin_lt.study.grid import Study
from rebasin_lt.study.launchers.task import answer_file
from rebasin_lt.study.launchers.worker import do_stage
from rebasin_lt.study.plan import plan
from rebasin_lt.study.work import run_stage

TINY = Recipe(
    network={"arch": "mlp", "num_classes": 10}, targets=(0.5,), fraction=0.5, rewinds=("1ep",), dense_epochs=1
)
STUDY = Study(title="tiny", recipe=TINY, seeds=[0], methods=["lth"])
DENSE = "width=1/seed=0/dense_a"
REFUSED = r"output folder .* holds a link that leads out of it, {} to .*: remove the link, or choose another folder"


@pytest.fixture
def outside(tmp_path) -> Path:
    """A folder of the user's, with files under the names that are written here."""
    place = tmp_path / "outside"
    for name in ("mine.txt", "0it.ckpt", "report.html", "study.json", "jobs.json", "dense_a.log", "a/b.txt"):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")
    return place


@pytest.fixture
def untouched(outside):
    """Nothing outside changed in the test."""
    before = content(outside)
    yield
    assert content(outside) == before


def content(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def study(tmp_path) -> Path:
    """A study's folder as a stranger may hand it on."""
    with claim_study(tmp_path / "study", STUDY):
        pass
    return tmp_path / "study"


def link(place: Path, target: Path | str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.mark.parametrize("name", ["mine.txt", "a", "none", "a/b.txt"])
@pytest.mark.parametrize("place", ["link", "logs/link", "imp/deep/er/link"])
def test_a_link_that_leads_out_is_refused_by_name(outside, untouched, tmp_path, name, place) -> None:
    link(tmp_path / "run" / place, outside / name)
    (tmp_path / "run/config.yaml").write_text("a: 1\n")
    before = sorted((tmp_path / "run").rglob("*"))
    for call in (check_links, lambda folder: claim_folder(folder, {"a": 1})):
        with pytest.raises(InputError, match=REFUSED.format(place)):
            call(tmp_path / "run")
    assert sorted((tmp_path / "run").rglob("*")) == before
    with pytest.raises(InputError, match=REFUSED.format(place)):
        check_inside(tmp_path / "run", f"{place}/below")
    check_links(tmp_path / "run", ("elsewhere",))
    check_inside(tmp_path / "run", "elsewhere/below")


def test_links_that_stay_inside_and_links_to_the_folder_are_nobodys_business(tmp_path) -> None:
    run = tmp_path / "disk" / "run"
    link(run / "wandb/latest", "run-1")
    link(run / "best.ckpt", run / "rewind/1ep.ckpt")
    link(run / "self", ".")
    link(tmp_path / "runs" / "a", run)
    for folder in (run, tmp_path / "runs" / "a"):
        check_links(folder)
        check_inside(folder, "wandb/latest/log")


def test_a_link_up_and_a_sibling_with_a_longer_name_lead_out(tmp_path) -> None:
    (tmp_path / "run-2").mkdir()
    for number, target in enumerate(("..", "../run-2", "../..", "/")):
        link(tmp_path / f"case{number}" / "run" / "link", target)
        (tmp_path / f"case{number}" / "run-2").mkdir()
        with pytest.raises(InputError, match=REFUSED.format("link")):
            check_links(tmp_path / f"case{number}" / "run")


def test_files_are_replaced_or_refused_but_never_written_through(outside, untouched, tmp_path) -> None:
    link(tmp_path / "run" / METRICS_FILE, outside / "mine.txt")
    with pytest.raises(OSError, match=METRICS_FILE):
        append_text(tmp_path / "run" / METRICS_FILE, "row\n")
    write_text(tmp_path / "run" / METRICS_FILE, "row\n")
    assert not (tmp_path / "run" / METRICS_FILE).is_symlink()
    append_text(tmp_path / "run" / METRICS_FILE, "row\n")
    assert (tmp_path / "run" / METRICS_FILE).read_text() == "row\nrow\n"


@pytest.mark.parametrize(
    ("place", "target"), [(f"logs/{DENSE}.log", "mine.txt"), ("logs", ""), ("logs/width=1/seed=0", "")]
)
def test_a_log_is_not_written_through_links(outside, untouched, study, place, target) -> None:
    link(study / place, outside / target)
    answer = do_stage(study, DENSE)
    assert answer["state"] == "failed"
    assert "holds a link that leads out of it" in answer["reason"] or "symbolic links" in answer["reason"]
    with pytest.raises(InputError, match=REFUSED.format(place)):
        claim_study(study, STUDY)


@pytest.mark.parametrize("place", ["slurm", "slurm/jobs.json", "report", f"logs/{DENSE}.json"])
def test_a_study_is_not_begun_over_links(outside, untouched, study, place) -> None:
    link(study / place, outside)
    assert answer_file(study, DENSE) == study / f"logs/{DENSE}.json"
    with pytest.raises(InputError, match=REFUSED.format(place)):
        claim_study(study, STUDY)


@pytest.mark.parametrize("place", ["width=1", "width=1/seed=0", DENSE, f"{DENSE}/rewind", f"{DENSE}/metrics.jsonl"])
def test_a_stage_is_not_done_elsewhere(outside, untouched, study, place) -> None:
    link(study / place, outside)
    (study / DENSE).mkdir(exist_ok=True, parents=True) if place.startswith(f"{DENSE}/") else None
    with pytest.raises(InputError, match=r"holds a link that leads out of it|holds files but no config"):
        run_stage(STUDY, plan(STUDY)[DENSE], study)


def of_report(folder: Path) -> list[str]:
    return ["report", str(folder)]


def of_fit(folder: Path) -> list[str]:
    return ["fit", "--config", "dense.yaml", "--trainer.default_root_dir", str(folder)]


def of_test(folder: Path) -> list[str]:
    return ["test", *of_fit(folder)[1:]]


@pytest.mark.parametrize(
    ("command", "place"),
    [(of_report, "report"), (of_report, "report/report.html"), (of_fit, "tensorboard"), (of_test, "tensorboard")],
)
def test_commands_refuse_in_one_line(
    outside, untouched, study, capfd, command: Callable[[Path], list[str]], place: str
) -> None:
    link(study / place, outside if "." not in place else outside / "report.html")
    if command is not of_report:
        (study / "config.yaml").unlink()
    before = sorted(study.rglob("*"))
    assert main(command(study)) == 2
    assert capfd.readouterr().err.count("\n") == 1
    assert sorted(study.rglob("*")) == before


def test_a_report_may_go_where_the_user_has_links(outside, untouched, study, tmp_path) -> None:
    """Its files are all in that folder and replace what lies there; nothing is written through a link."""
    link(tmp_path / "mine" / "data", outside)
    link(tmp_path / "mine" / "report.html", outside / "report.html")
    assert main(["report", str(study), "--out", str(tmp_path / "mine")]) == 0
    assert not (tmp_path / "mine" / "report.html").is_symlink()
