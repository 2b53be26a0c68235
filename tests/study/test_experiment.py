"""The experiment's stages: what they leave, that they are run once, and that the report says what was measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from rebasin_lt.errors import InputError
from rebasin_lt.files import hash_tensors
from rebasin_lt.lit.checkpoint import network_state, read_checkpoint
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.report.experiment import write_report
from rebasin_lt.study import stages
from rebasin_lt.study.alignment import Alignment, align
from rebasin_lt.study.experiment import METHODS, run_experiment
from rebasin_lt.study.recipe import Recipe

TINY = Recipe(targets=(0.5, 0.8), fraction=0.5, dense_epochs=2, epochs_per_round=1, sparse_epochs=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    return folder, run_experiment(folder, TINY, 2)


def test_every_method_is_measured_at_every_sparsity_and_seed(finished) -> None:
    _, outcome = finished
    keys = {(record["seed"], record["sparsity"], record["method"]) for record in outcome.records}
    assert keys == {(seed, target, method) for seed in (0, 1) for target in TINY.targets for method in METHODS}
    assert len(outcome.records) == len(keys)
    assert len(outcome.dense) == 4
    assert all(0 <= record["accuracy"] <= 1 for record in outcome.records)


def test_complete_stages_are_not_run_again(finished, monkeypatch) -> None:
    folder, outcome = finished
    monkeypatch.setattr(stages, "quiet_trainer", lambda *_, **__: pytest.fail("a complete stage was trained again"))
    assert run_experiment(folder, TINY, 2).records == outcome.records


def test_an_interrupted_experiment_goes_on_to_the_same_numbers(finished, tmp_path, monkeypatch) -> None:
    _, outcome = finished
    train, calls = stages.train_sparse, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(stages, "train_sparse", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(tmp_path, TINY, 1)
    first = [record for record in outcome.records if record["seed"] == 0]
    assert run_experiment(tmp_path, TINY, 1).records == first


def test_another_recipe_in_the_same_folder_is_refused(finished) -> None:
    folder, _ = finished
    with pytest.raises(InputError, match="holds another run"):
        run_experiment(folder, Recipe(dense_epochs=3), 1)


def test_stage_of_other_weights_under_the_same_name_is_not_taken_for_done(finished, tmp_path) -> None:
    folder, _ = finished
    shutil.copytree(folder / "seed=0", tmp_path / "seed=0")
    other, mask = tmp_path / "b.ckpt", stages.mask_file(tmp_path / "seed=0" / "imp", 0.8)
    shutil.copy(folder / "seed=0" / "dense_b" / "rewind" / "1ep.ckpt", other)
    stages.train_sparse(tmp_path / "run", TINY, mask, other, 0)
    shutil.copy(folder / "seed=1" / "dense_b" / "rewind" / "1ep.ckpt", other)
    with pytest.raises(InputError, match="holds another run: init_sha256 is"):
        stages.train_sparse(tmp_path / "run", TINY, mask, other, 0)


def test_alignment_to_other_weights_under_the_same_name_is_not_taken_for_done(finished, tmp_path) -> None:
    folder, _ = finished
    own, other = (str(tmp_path / f"{name}.ckpt") for name in "ab")
    shutil.copy(folder / "seed=0" / "dense_a" / stages.FINAL, own)
    shutil.copy(folder / "seed=0" / "dense_b" / stages.FINAL, other)
    settings = Alignment(ckpt_a=own, ckpt_b=other, num_alphas=0)
    assert align(settings, tmp_path / "out") == align(settings, tmp_path / "out")
    shutil.copy(folder / "seed=1" / "dense_b" / stages.FINAL, other)
    with pytest.raises(InputError, match="holds another run: sha256_b is"):
        align(settings, tmp_path / "out")


def test_seeds_differ_and_pairs_share_their_data_order(finished) -> None:
    folder, _ = finished
    finals = [folder / f"seed={seed}" / f"dense_{net}" / stages.FINAL for seed in (0, 1) for net in "ab"]
    assert len({hash_tensors(network_state(read_checkpoint(path))) for path in finals}) == 4
    for seed in (0, 1):
        configs = [path.read_text() for path in (folder / f"seed={seed}" / "sparse").glob("*/config.yaml")]
        assert len({line for text in configs for line in text.splitlines() if line.startswith("seed:")}) == 1


def test_controls_keep_what_they_promise(finished) -> None:
    folder, _ = finished
    own = Mask.load(stages.mask_file(folder / "seed=0" / "imp", 0.8))
    controls = folder / "seed=0" / "controls"
    one_shot = Mask.load(controls / "b_magnitude" / "sparsity-0.8.mask.safetensors")
    assert one_shot.num_kept == own.num_kept
    trained = read_checkpoint(folder / "seed=0" / "dense_b" / stages.FINAL)["state_dict"]
    kept, gone = (
        torch.cat([trained[f"net.{name}"].abs()[mask if keep else ~mask] for name, mask in one_shot.items()])
        for keep in (True, False)
    )
    assert kept.min() >= gone.max()
    for control in ("random_permutation", "shuffled"):
        mask = Mask.load(controls / control / "sparsity-0.8.mask.safetensors")
        assert {name: int(kept.sum()) for name, kept in mask.items()} == {
            name: int(kept.sum()) for name, kept in own.items()
        }
        assert any(not torch.equal(mask[name], own[name]) for name in own)
    consistent = Mask.load(controls / "random_permutation" / "sparsity-0.8.mask.safetensors")
    for (
        name,
        kept,
    ) in own.items():  # a permutation moves rows and columns, so what they hold in total only changes places
        for dim in (0, 1):
            assert consistent[name].sum(dim).sort().values.tolist() == kept.sum(dim).sort().values.tolist()


def test_report_holds_the_numbers_and_needs_nothing_else(finished, tmp_path) -> None:
    _, outcome = finished
    page = write_report(tmp_path, TINY, outcome)
    html = page.read_text(encoding="utf-8")
    assert "<svg" in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "src=" not in html
    assert {path.name for path in Path(tmp_path).iterdir()} >= {
        "accuracy.svg",
        "barrier-loss.svg",
        "table.csv",
        "records.json",
    }
    assert json.loads((tmp_path / "records.json").read_text())["records"] == outcome.records
