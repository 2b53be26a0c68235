"""`--augment`: statistics of batch norm from images as in training, on every command that estimates them on a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rebasin_lt.analyses import barrier
from rebasin_lt.analyses.barrier import measure_barriers
from rebasin_lt.analyses.landscape import measure_landscape, measure_plane
from rebasin_lt.connectivity.batchnorm import clone, reset_batchnorm
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.subjects import Subjects, open_pair
from rebasin_lt.report.analyses.barrier import show_barriers
from rebasin_lt.settings.config_files import find_config
from rebasin_lt.settings.options import BarrierOptions, LandscapeOptions
from rebasin_lt.storage.run_folder import CONFIG
from rebasin_lt.storage.strict_yaml import read_yaml
from rebasin_lt.study.folder import study_of
from rebasin_lt.study.kinds.barrier import BARRIER_KIND
from rebasin_lt.study.plan import plan

MEASURES: dict[str, Callable[..., dict[str, Any]]] = {"barrier": measure_barriers, "landscape": measure_plane}


@pytest.fixture
def options(planted: Path) -> dict[str, BarrierOptions | LandscapeOptions]:
    given: dict[str, Any] = {
        "ckpt_a": str(planted / "a.ckpt"), "ckpt_b": str(planted / "b.ckpt"), "num_images": 60, "num_test_images": 50,
        "permutation": str(planted / "pi.perm.safetensors"),
    }  # fmt: skip
    return {
        "barrier": BarrierOptions(**given, num_alphas=3, corrections=("bn_reset",), splits=("train", "test")),
        "landscape": LandscapeOptions(**given, num_points=3, margin=0.0),
    }


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits have no augmentation: here it turns them upside down and makes them brighter."""
    train = Subjects.train

    def augmented(subjects: Subjects, augment: bool = False) -> Any:
        images = train(subjects, augment)
        return [(3 * x.flip(-2), y) for x, y in images] if augment else images

    monkeypatch.setattr(Subjects, "train", augmented)


def losses_at_b(command: str, result: dict[str, Any]) -> dict[str, float]:
    """By split, the loss of B after its statistics were estimated anew."""
    if command == "barrier":
        return {curve["split"]: curve["loss"][-1] for curve in result["curves"] if curve["alignment"] == "before"}
    x, y = result["corners"]["b"]
    row, column = (min(range(3), key=lambda i: abs(line[i] - at)) for line, at in ((result["y"], y), (result["x"], x)))
    return {"test": result["loss"]["bn_reset"][row][column]}


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("command", MEASURES)
@pytest.mark.usefixtures("turned")
def test_statistics_are_of_augmented_images_and_losses_of_plain_ones(command, augment, options, tmp_path) -> None:
    chosen = replace(options[command], augment=augment)
    found = losses_at_b(command, MEASURES[command](chosen, tmp_path / "out"))
    subjects = open_pair(chosen)
    _, network = subjects.on_device()
    state = reset_batchnorm(network, [x for x, _ in subjects.train(augment)])
    images = {"train": subjects.train(), "test": subjects.test()}
    for split, loss in found.items():
        x, y = (torch.cat(parts) for parts in zip(*images[split], strict=True))
        with torch.no_grad():
            expected = torch.nn.functional.cross_entropy(clone(network, state)(x), y)
        assert loss == pytest.approx(expected.item(), rel=1e-4), split


@pytest.mark.parametrize("command", MEASURES)
@pytest.mark.usefixtures("turned")
def test_they_differ_and_a_folder_holds_one_of_both(command, options, tmp_path) -> None:
    plain = MEASURES[command](options[command], tmp_path / "plain")
    augmented = MEASURES[command](replace(options[command], augment=True), tmp_path / "augmented")
    assert losses_at_b(command, plain) != losses_at_b(command, augmented)
    configs = [yaml.safe_load((tmp_path / name / CONFIG).read_text()) for name in ("plain", "augmented")]
    assert [config.get("augment") for config in configs] == [None, True]  # folders of before do not name it
    with pytest.raises(InputError, match="holds another run: augment is not set there and True here"):
        MEASURES[command](replace(options[command], augment=True), tmp_path / "plain")


def test_a_result_and_its_table_say_so(options, tmp_path) -> None:
    for augment in (False, True):
        result = measure_barriers(replace(options["barrier"], augment=augment), tmp_path / str(augment))
        assert result.get("augment", False) == augment
        assert ("statistics of augmented images" in show_barriers(result, tmp_path)) == augment


@pytest.mark.parametrize("augment", [False, True])
def test_the_stages_of_a_study_are_measured_with_its_setting(augment, tmp_path, monkeypatch) -> None:
    seen: list[BarrierOptions] = []
    monkeypatch.setattr(barrier, "measure_barriers", lambda options, _: seen.append(options))
    settings = read_yaml(find_config("studies/digits.yaml"))
    settings = {name: value for name, value in settings.items() if name != "out"}
    study = study_of(settings | {"barrier": {**settings["barrier"], **({"augment": True} if augment else {})}}, "it")
    stage = next(stage for stage in plan(study).values() if stage.kind == "barrier")
    BARRIER_KIND.run(study, stage, tmp_path)
    assert [options.augment for options in seen] == [augment]


def test_two_weights_refuse_it() -> None:
    with pytest.raises(InputError, match="--two-weights trains its own networks, but --augment is True: give one or"):
        measure_landscape(LandscapeOptions(two_weights=True, augment=True), "nowhere")
