"""A study as a whole: every stage once, by whichever launcher, killed or not, to the same report."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from tiny import STUDY, command, report_bytes, start, write_config

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.experiment import stages
from rebasin_lt.lit.checkpoint import network_state, read_checkpoint
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.study.folder import claim_study
from rebasin_lt.study.launchers.worker import log_file
from rebasin_lt.study.outcome import read_outcome
from rebasin_lt.study.plan import plan
from rebasin_lt.study.state import State
from rebasin_lt.study.work import run_stage


def done(folder):
    return State.of(plan(STUDY), folder).done


def content(path):
    return Mask.load(path).hash if path.suffix == ".safetensors" else hash_tensors(network_state(read_checkpoint(path)))


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory):
    return report_bytes(finished, tmp_path_factory.mktemp("report"))


def test_every_stage_is_done_and_in_the_outcome(finished) -> None:
    state, outcome = State.of(plan(STUDY), finished), read_outcome(finished)
    assert state.done == set(state.plan)
    assert all(stage["done"] for stage in outcome.stages)
    cells = {(run["seed"], run["method"], run["sparsity"], run["rewind"]) for run in outcome.sparse}
    assert len(outcome.sparse) == len(cells) == 2 * 6 * 2 * 2
    assert {(run["seed"], run["role"]) for run in outcome.dense} == {(0, "a"), (0, "b"), (1, "a"), (1, "b")}
    assert {run["setting"] for run in outcome.diversity} == {"dense", "imp", "lth", "permuted", "naive"}
    assert {(run["seed"], run["matcher"]) for run in outcome.matches} == {
        (seed, name) for seed in (0, 1) for name in ("permuted", "early")
    }
    assert {run["when"] for run in outcome.barriers} == {"before", "after"}
    assert all(0 <= run["top1"] <= 1 for run in outcome.sparse)


def test_every_kind_of_stage_takes_a_network_and_data_of_the_users_own(tmp_path, monkeypatch) -> None:
    seen = []
    opened = tiny.Faint.open_part
    monkeypatch.setattr(tiny.Faint, "open_part", lambda self, part: seen.append(self._contrast) or opened(self, part))
    network = {"arch": "tiny:own_network", "num_classes": 10, "input_shape": [1, 8, 8]}
    data = {"name": "tiny:Faint", "contrast": 0.25, "train_size": 600}
    few = {"targets": (0.8,), "rewinds": ("1ep",)}
    study = replace(STUDY, recipe=replace(STUDY.recipe, network=network, data=data, **few), widths=[0.5])
    with claim_study(tmp_path / "own", study):
        for stage in plan(study).values():
            run_stage(study, stage, tmp_path / "own")
    assert State.of(plan(study), tmp_path / "own").done == set(plan(study))
    assert set(seen) == {0.25}  # what is matched and measured on is what was trained on


def test_the_outcome_has_the_numbers_of_the_stages(finished) -> None:
    outcome = read_outcome(finished)

    def result(path):
        return json.loads((finished / path / "result.json").read_text())

    for run in outcome.sparse:
        cell = f"method={run['method']},sparsity={run['sparsity']},rewind={run['rewind']}"
        found = result(f"width=1/seed={run['seed']}/sparse/{cell}")
        assert (run["top1"], run["top5"]) == (found["test/top1"] / 100, found["test/top5"] / 100)
    for run in outcome.dense:
        assert run["top1"] == result(f"width=1/seed={run['seed']}/dense_{run['role']}")["test/top1"] / 100
    for run in outcome.diversity:
        found = result("width=1/diversity/sparsity=0.8,rewind=1ep,members=2")["settings"][run["setting"]]
        first, second = found["member_accuracy"]
        assert run["accuracy"] == pytest.approx((first + second) / 2)
        assert run["accuracy_std"] == pytest.approx(abs(first - second) / 2**0.5)  # ddof 1
        assert (run["ensemble"], run["kl"]) == (found["ensemble_accuracy"], found["kl"])


def test_what_a_cell_is_trained_from(finished) -> None:
    runs = {path: stage.settings for path, stage in plan(STUDY).items() if stage.kind == "sparse"}
    first = runs["width=1/seed=1/sparse/method=permuted,sparsity=0.8,rewind=1ep"]
    assert first["mask"] == "width=1/seed=1/match/permuted/sparsity-0.8.mask.safetensors"
    assert first["init_from"] == "width=1/seed=1/dense_b/rewind/1ep.ckpt"
    member = runs["width=1/diversity/member=1/sparse/method=lth,sparsity=0.8,rewind=1ep"]
    assert member["init_from"] == "width=1/seed=0/dense_a/rewind/1ep.ckpt"
    assert member["mask"] == "width=1/seed=0/imp_a/imp/sparsity-0.8.mask.safetensors"
    assert member["seed"] == first["seed"]  # the data order of its seed
    networks = {
        hash_tensors(network_state(read_checkpoint(finished / f"width=1/seed={seed}/dense_{role}/final.ckpt")))
        for seed in (0, 1)
        for role in "ab"
    }
    assert len(networks) == 4


def test_complete_stages_are_not_trained_again(finished, monkeypatch) -> None:
    monkeypatch.setattr(stages, "_run", lambda *_: pytest.fail("a complete stage was trained again"))
    for stage in plan(STUDY).values():
        run_stage(STUDY, stage, finished)


def test_a_folder_may_be_moved(finished, tmp_path, monkeypatch) -> None:
    shutil.copytree(finished, tmp_path / "moved")
    monkeypatch.setattr(stages, "_run", lambda *_: pytest.fail("a moved stage was trained again"))
    for stage in plan(STUDY).values():
        run_stage(STUDY, stage, tmp_path / "moved")
    assert State.of(plan(STUDY), tmp_path / "moved").done == set(plan(STUDY))


def test_a_stage_made_from_something_else_is_noticed(finished, tmp_path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(finished, folder)
    dense, path = folder / "width=1/seed=0/dense_a", "width=1/seed=0/imp_a"
    shutil.rmtree(dense)
    shutil.copytree(folder / "width=1/seed=1/dense_a", dense)
    assert path not in State.of(plan(STUDY), folder).done
    with pytest.raises(InputError, match="holds another run: init_sha256 is"):
        run_stage(STUDY, plan(STUDY)[path], folder)


def test_a_file_that_is_lost_is_made_again(finished, tmp_path) -> None:
    folder, first = tmp_path / "lost", "width=1/seed=0"
    shutil.copytree(finished, folder)
    lost = ["dense_a/final.ckpt", "dense_b/rewind/1ep.ckpt", "imp_a/imp/sparsity-0.8.mask.safetensors"]
    lost += ["imp_b/imp/sparsity-0.5.ckpt", "sparse/method=lth,sparsity=0.8,rewind=1ep/final.ckpt"]
    lost += ["match/permuted/sparsity-0.8.mask.safetensors", "controls/shuffled/sparsity-0.8.mask.safetensors"]
    for name in lost:
        (folder / first / name).unlink()
        assert str(Path(first, name).parent).removesuffix("/imp").removesuffix("/rewind") not in done(folder), name
    for stage in plan(STUDY).values():
        run_stage(STUDY, stage, folder)
    assert done(folder) == set(plan(STUDY))
    for name in lost:
        assert content(finished / first / name) == content(folder / first / name), name


def test_a_mask_that_is_replaced_is_noticed(finished, tmp_path) -> None:
    folder, place = tmp_path / "replaced", "width=1/seed=0/imp_a"
    shutil.copytree(finished, folder)
    masks = folder / place / "imp"
    shutil.copy(masks / "sparsity-0.5.mask.safetensors", masks / "sparsity-0.8.mask.safetensors")
    assert place not in done(folder)
    with pytest.raises(
        BrokenFileError, match=r"sparsity-0\.8\.mask\.safetensors is not the file that .*result\.json sp"
    ):
        run_stage(STUDY, plan(STUDY)[place], folder)
    with pytest.raises(InputError, match="holds another run: mask_sha256 is"):
        run_stage(STUDY, plan(STUDY)["width=1/seed=0/sparse/method=lth,sparsity=0.8,rewind=1ep"], folder)


def test_a_result_that_is_damaged_is_said_to_be(finished, tmp_path) -> None:
    shutil.copytree(finished, tmp_path / "damaged")
    result = tmp_path / "damaged/width=1/seed=1/dense_b/result.json"
    result.write_text(result.read_text().replace('"test/top1": ', '"test/top1": 1'))
    with pytest.raises(BrokenFileError, match="dense_b/result.json is damaged: .* remove it, and run again what wrote"):
        done(tmp_path / "damaged")
    result.unlink()
    for path in ("width=1/seed=1/dense_b", "width=1/seed=1/imp_b"):
        run_stage(STUDY, plan(STUDY)[path], tmp_path / "damaged")
    assert {"width=1/seed=1/dense_b", "width=1/seed=1/imp_b"} <= done(tmp_path / "damaged")


def test_a_log_that_cannot_be_written_fails_its_stage_alone(tmp_path) -> None:
    config, out = write_config(tmp_path / "tiny.yaml"), tmp_path / "study"
    with claim_study(out, STUDY):
        (out / "logs").write_text("mine")
    process = start(config, out, "--workers", "1")
    printed, errors = process.communicate(timeout=300)
    assert (process.returncode, printed) == (1, "")
    *_, last = errors.splitlines()
    count = len(plan(STUDY))
    assert last.startswith(
        f"rebasin-lt: error: 4 of {count} stages failed, {count - 4} wait for what failed; the first,"
    )
    assert ": Not a directory; " in last
    assert "Traceback" not in errors


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_workers_leave_the_same_report_after_kills(report, tmp_path, kills) -> None:
    """kill -9 of the whole process group at random moments; the last run ends by itself."""
    config, out, moments = write_config(tmp_path / "tiny.yaml"), tmp_path / "study", random.Random(5)
    for _ in range(kills):
        process = start(config, out, "--workers", "2")
        time.sleep(moments.uniform(1, 12))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(config, out, "--workers", "2")
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0
    assert all(line.startswith(f"{out}: ") for line in errors.splitlines())  # how it went
    count = len(plan(STUDY))
    assert printed == f"{count} of {count} stages are complete; rebasin-lt report {out} shows them\n"
    assert report_bytes(out, tmp_path / "report") == report
    again = (
        f"import sys; from rebasin_lt.cli import main; print(main({command(config, out)[3:]}), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", again], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == printed + "0 False\n"  # what is complete waits for no import


_SIGNALS = [
    (signal.SIGTERM, 75),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in ((signal.SIGINT, 130), (signal.SIGUSR1, 75))),
]


@pytest.mark.parametrize(("number", "code"), _SIGNALS)
def test_signals_leave_a_study_that_goes_on(tmp_path, number, code) -> None:
    long = replace(STUDY, seeds=[0], recipe=replace(STUDY.recipe, dense_epochs=2000), barrier=None, diversity=None)
    config, out = write_config(tmp_path / "long.yaml", long), tmp_path / "study"
    process = start(config, out, "--workers", "1")
    place = out / "width=1/seed=0/dense_a"
    end = time.monotonic() + 60
    while not (place / "metrics.jsonl").exists() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(process.pid, number) if number == signal.SIGINT else os.kill(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert errors.splitlines()[-1].startswith("rebasin-lt: error: ")
    assert errors.endswith("the same command goes on from here\n")
    assert (place / "last.ckpt").is_file()  # the worker was asked, not killed
    assert not (out / ".lock").exists()


@pytest.mark.slow
def test_a_stage_that_fails_stops_only_what_needs_it(tmp_path) -> None:
    config, out = write_config(tmp_path / "tiny.yaml"), tmp_path / "study"
    stranger = out / "width=1/seed=0/imp_b/notes.txt"
    with claim_study(out, STUDY):
        stranger.parent.mkdir(parents=True)
        stranger.write_text("mine")
    process = start(config, out, "--workers", "1")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    state = State.of(plan(STUDY), out)
    missing = {path for path in state.plan if path not in state.done}
    needs_it = {path for path, stage in state.plan.items() if "width=1/seed=0/imp_b" in stage.needs}
    assert missing == {"width=1/seed=0/imp_b", *needs_it}
    assert len(needs_it) == 5  # four runs under B's own mask, and the ensembles
    log = log_file(out, "width=1/seed=0/imp_b")
    assert f"width=1/seed=0/imp_b failed; the last lines of {log}:\n    " in errors
    last = errors.splitlines()[-1]
    assert last.startswith(
        f"rebasin-lt: error: 1 of {len(state.plan)} stages failed, 5 wait for what failed; the first, "
        f"width=1/seed=0/imp_b: output folder {stranger.parent} holds files but no config.yaml"
    )
    assert last.endswith("the same command runs what is missing")
    stranger.unlink()
    process = start(config, out, "--workers", "1")
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 0
