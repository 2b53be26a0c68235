"""A study is complete by the content of its files: however it travels, and whatever their times say."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import STUDY, report_bytes, write_config

from rebasin_lt.cli import main
from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.experiment import stages
from rebasin_lt.storage.run_folder import RESULT, finish
from rebasin_lt.storage.run_folder import finished as read_result
from rebasin_lt.study import launch
from rebasin_lt.study.outcome import read_outcome
from rebasin_lt.study.plan import plan
from rebasin_lt.study.state import State
from rebasin_lt.study.work import run_stage

FIRST, YEAR = "width=1/seed=0", 365 * 86400
ALL = set(plan(STUDY))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def copied(source: Path, place: Path) -> None:
    shutil.copytree(source, place, copy_function=shutil.copy)


def shuffled(source: Path, place: Path) -> None:
    shutil.copytree(source, place)
    lots = random.Random(0)
    for path in files(place):
        os.utime(path, (lots.uniform(0, 2e9),) * 2)


def ahead(source: Path, place: Path) -> None:
    shutil.copytree(source, place)
    result = place / FIRST / "dense_a" / RESULT
    os.utime(result, (result.stat().st_mtime + YEAR,) * 2)


def long_ago(source: Path, place: Path) -> None:
    shutil.copytree(source, place)
    for path in files(place / FIRST / "sparse"):
        os.utime(path, (0, 0))


def cloned(source: Path, place: Path) -> None:
    work = place.parent / "work"
    shutil.copytree(source, work)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(work)]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "study"]):
        subprocess.run([*git, *command], check=True)
    subprocess.run(["git", "clone", "-q", str(work), str(place)], check=True)


def unpacked(source: Path, place: Path) -> None:
    with tarfile.open(place.parent / "study.tar.gz", "w:gz") as archive:
        for path in reversed(files(source)):
            archive.add(path, path.relative_to(source))
    with tarfile.open(place.parent / "study.tar.gz") as archive:
        archive.extractall(place, filter="data")


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory) -> dict[str, str]:
    return report_bytes(finished, tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize("travel", [copied, shuffled, ahead, long_ago, cloned, unpacked])
def test_a_study_is_as_complete_where_it_went(finished, report, tmp_path, monkeypatch, capsys, travel) -> None:
    travel(finished, tmp_path / "there")
    assert read_outcome(tmp_path / "there") == read_outcome(finished)
    if travel is cloned:  # equal outcomes give equal bytes; drawing takes seconds
        assert report_bytes(tmp_path / "there", tmp_path / "report") == report
    monkeypatch.setattr(launch, "run_study", lambda *_: pytest.fail("a stage was begun"))
    config = write_config(tmp_path / "tiny.yaml")
    assert main(["study", "--config", str(config), "--out", str(tmp_path / "there")]) == 0
    assert capsys.readouterr().out.startswith(f"{len(ALL)} of {len(ALL)} stages are complete; ")


def replaced(name: str, by: str) -> Callable[[Path], None]:
    return lambda folder: shutil.copy(folder / by, folder / name)


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - 100)


def emptied(name: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, 0)


def lost(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def exchanged(path: str, by: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        shutil.rmtree(folder / path)
        shutil.copytree(folder / by, folder / path)

    return change


IMP, MATCH = f"{FIRST}/imp_a", f"{FIRST}/match/permuted"
SNIP, SPARSE = f"{FIRST}/controls/snip,rewind=1ep", f"{FIRST}/sparse/method=snip,sparsity=0.8,rewind=1ep"
MASK, PERMUTATION = "sparsity-0.8.mask.safetensors", "permutation.perm.safetensors"
DENSE, OTHER = f"{FIRST}/dense_a", "width=1/seed=1"
PERMUTED = f"{FIRST}/sparse/method=permuted,sparsity=0.8,rewind=1ep"


@pytest.mark.parametrize(
    ("change", "made_of_it"),
    [
        (replaced(f"{DENSE}/final.ckpt", f"{OTHER}/dense_a/final.ckpt"), [DENSE, IMP, MATCH]),
        (replaced(f"{DENSE}/final.ckpt", f"{DENSE}/rewind/1ep.ckpt"), [DENSE, IMP, MATCH]),
        (replaced(f"{FIRST}/dense_b/rewind/1ep.ckpt", f"{FIRST}/dense_b/rewind/0it.ckpt"), [SNIP, SPARSE]),
        (replaced(f"{IMP}/imp/{MASK}", f"{IMP}/imp/sparsity-0.5.mask.safetensors"), [IMP, MATCH, SNIP]),
        (replaced(f"{MATCH}/{MASK}", f"{IMP}/imp/{MASK}"), [MATCH, PERMUTED]),
        (replaced(f"{SNIP}/{MASK}", f"{IMP}/imp/{MASK}"), [SNIP, SPARSE]),
        (
            replaced(f"{MATCH}/{PERMUTATION}", f"{OTHER}/match/permuted/{PERMUTATION}"),
            [MATCH, f"{FIRST}/barrier/permuted"],
        ),
        (exchanged(DENSE, f"{OTHER}/dense_a"), [IMP, MATCH]),
        (exchanged(IMP, f"{OTHER}/imp_a"), [MATCH, SNIP]),
        (cut(f"{SPARSE}/final.ckpt"), [SPARSE]),
        (emptied(f"{FIRST}/dense_b/rewind/0it.ckpt"), [f"{FIRST}/dense_b"]),
        (cut(f"{IMP}/imp/{MASK}"), [IMP, MATCH]),
        (lost(f"{IMP}/imp/{MASK}"), [IMP, MATCH]),
        (lost(f"{SPARSE}/{RESULT}"), [SPARSE]),
    ],
)
def test_what_changed_is_noticed_whatever_the_times_say(finished, tmp_path, change, made_of_it) -> None:
    place = tmp_path / "study"
    shutil.copytree(finished, place)
    times = {path: path.stat().st_mtime_ns for path in files(place)}
    change(place)
    for path in files(place):
        os.utime(path, ns=(times[path],) * 2)
    done = State.of(plan(STUDY), place).done
    assert done.isdisjoint(made_of_it)
    assert {"width=1/seed=1/imp_b", "width=1/seed=1/dense_b"} <= done  # what has nothing to do with it


@pytest.mark.parametrize(
    ("change", "stage", "message"),
    [
        (replaced(f"{DENSE}/final.ckpt", f"{DENSE}/rewind/1ep.ckpt"), DENSE, "is not the file"),
        (replaced(f"{DENSE}/final.ckpt", f"{DENSE}/rewind/1ep.ckpt"), IMP, "init_sha256 is"),
        (replaced(f"{IMP}/imp/{MASK}", f"{IMP}/imp/sparsity-0.5.mask.safetensors"), MATCH, "sha256_masks is"),
        (replaced(f"{SNIP}/{MASK}", f"{IMP}/imp/{MASK}"), SPARSE, "mask_sha256 is"),
        (cut(f"{SPARSE}/final.ckpt"), SPARSE, "final.ckpt is (not the file|cut short)"),
        (emptied(f"{FIRST}/dense_b/rewind/0it.ckpt"), f"{FIRST}/dense_b", "0it.ckpt is (not the file|cut short)"),
        (cut(f"{IMP}/imp/{MASK}"), IMP, "safetensors is (not the file|cut short)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("release", ["", "e0e852d"])
def test_what_changed_is_refused_by_name(finished, tmp_path, change, stage, message, release) -> None:
    place = tmp_path / "study"
    shutil.copytree(finished, place)
    if release:
        forget(place)
    change(place)
    if release and stage == DENSE:
        return  # nothing says what lay there
    with pytest.raises((InputError, BrokenFileError), match=message) as refused:
        run_stage(STUDY, plan(STUDY)[stage], place)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [f"{SPARSE}/final.ckpt", f"{IMP}/imp/{MASK}"])
def test_files_of_earlier_releases_that_were_cut_short_are_not_counted(finished, tmp_path, name) -> None:
    place, path = tmp_path / "study", str(Path(name).parent).removesuffix("/imp")
    shutil.copytree(finished, place)
    forget(place)
    assert State.of(plan(STUDY), place, unsaid=True).done == ALL
    for change in (cut(name), emptied(name), lost(name)):
        change(place)
        assert path not in State.of(plan(STUDY), place, unsaid=True).done


def test_results_of_earlier_releases_are_reported_then_compared_and_recorded_once(
    finished, tmp_path, monkeypatch
) -> None:
    place = tmp_path / "study"
    shuffled(finished, place)
    forget(place)
    outcome = read_outcome(place)
    assert outcome == read_outcome(finished)
    assert State.of(plan(STUDY), place).done == set()
    monkeypatch.setattr(stages, "_run", lambda *_: pytest.fail("a complete stage was trained again"))
    for stage in plan(STUDY).values():
        run_stage(STUDY, stage, place)
    assert State.of(plan(STUDY), place).done == ALL
    assert read_outcome(place) == outcome


def forget(place: Path) -> None:
    """Results as e0e852d wrote them."""
    for path in place.rglob(RESULT):
        result = read_result(path.parent)
        del result["files"]
        finish(path.parent, result)


def test_a_killed_stage_that_is_made_again_does_not_look_finished(finished, tmp_path, monkeypatch) -> None:
    place = tmp_path / "study"
    shutil.copytree(finished, place)
    lost(f"{FIRST}/dense_a/rewind/0it.ckpt")(place)
    monkeypatch.setattr(stages, "_run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_stage(STUDY, plan(STUDY)[f"{FIRST}/dense_a"], place)
    assert not (place / FIRST / "dense_a" / RESULT).exists()
