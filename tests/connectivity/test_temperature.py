"""Temperature calibration: the best factor against scipy's, and a line whose errors it leaves alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional as F

from rebasin_lt.cli import main
from rebasin_lt.connectivity.barrier import loss_barrier
from rebasin_lt.connectivity.temperature import inverse_temperature, inverse_temperatures
from rebasin_lt.lit.classifier import Classifier


def loss(logits: Tensor, targets: Tensor, factor: float) -> float:
    return float(F.cross_entropy(factor * logits.double(), targets))


def noisy(seed: int, size: float, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Logits that lean towards the targets, whatever their size."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (200,), generator=generator)
    return size * (F.one_hot(targets, classes) + torch.randn(200, classes, generator=generator)), targets


@pytest.mark.parametrize("size", [0.01, 0.3, 1.0, 40.0])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_factor_that_scipy_finds(seed, size) -> None:
    logits, targets = noisy(seed, size)
    best = minimize_scalar(lambda exponent: loss(logits, targets, 10**exponent), bounds=(-4, 4), method="bounded")
    found = inverse_temperature(logits, targets)
    assert np.log10(found) == pytest.approx(best.x, abs=1e-4)
    assert loss(logits, targets, found) <= best.fun + 1e-9


def test_the_scale_of_the_logits_cancels() -> None:
    logits, targets = noisy(0, 1.0)
    assert 7 * inverse_temperature(7 * logits.double(), targets) == pytest.approx(inverse_temperature(logits, targets))


def test_answers_worse_than_none_are_left_out() -> None:
    targets = torch.tensor([0, 1, 0, 1])
    assert inverse_temperature(-3 * F.one_hot(targets, 2).double(), targets) == 0


def test_answers_that_are_all_right_have_no_best_temperature() -> None:
    targets = torch.tensor([0, 1, 0, 1])
    assert inverse_temperature(0.1 * F.one_hot(targets, 2).double(), targets) == 1


def networks(norm: bool) -> tuple[nn.Module, nn.Module]:
    layers = [lambda: [nn.Linear(6, 12), *([nn.BatchNorm1d(12)] if norm else []), nn.ReLU(), nn.Linear(12, 4)]] * 2
    a, b = (nn.Sequential(*make()).double().eval() for make in layers)
    return a, b


def batches(seed: int, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 6, generator=generator).double(), torch.randint(0, 4, (size,), generator=generator))
        for size in sizes
    ]


@pytest.mark.parametrize("norm", [False, True])
def test_errors_of_a_line_are_unchanged_and_losses_where_they_were_fitted_no_higher(norm) -> None:
    a, b = networks(norm)
    images = batches(0, 40, 25)
    plain, calibrated = (
        loss_barrier(a, a, b, images, alphas=5, correction=name, correction_batches=images)
        for name in ("bn_reset", "temperature")
    )
    assert calibrated.error == plain.error
    assert all(new <= old + 1e-12 for new, old in zip(calibrated.loss, plain.loss, strict=True))
    assert max(np.subtract(plain.loss, calibrated.loss)) > 1e-3, "the test cannot tell"


def test_every_point_has_its_own_temperature_from_the_images_to_correct_with() -> None:
    a, b = networks(False)
    fitted, judged = batches(0, 40), batches(1, 30, 7)
    found = loss_barrier(a, a, b, judged, alphas=3, correction="temperature", correction_batches=fitted)
    factors = inverse_temperatures([a, b], fitted)
    assert factors[0] != pytest.approx(factors[1])
    inputs, targets = (torch.cat(parts) for parts in zip(*judged, strict=True))
    expected = [loss(net(inputs).detach(), targets, factor) for net, factor in zip((a, b), factors, strict=True)]
    assert [found.loss[0], found.loss[-1]] == pytest.approx(expected, rel=1e-12)


def test_progress_knows_the_pass_that_fits() -> None:
    a, b = networks(True)
    told = []
    options = {"correction_batches": batches(0, 40, 25), "correction": "temperature", "alphas": 3}
    loss_barrier(a, a, b, batches(1, 30), **options, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 5) for done in range(1, 6)]  # two to reset, two to fit, one to judge


def test_it_is_measured_where_it_is_asked_for(tmp_path, capsys) -> None:
    for name in "ab":
        module = Classifier(width=0.25)
        about = {"format_version": 1, **module.architecture(), "data": {"name": "digits"}}
        torch.save({"state_dict": module.state_dict(), "rebasin_lt": about}, tmp_path / f"{name}.ckpt")
    pair = ["barrier", "--ckpt-a", f"{tmp_path}/a.ckpt", "--ckpt-b", f"{tmp_path}/b.ckpt", "--num-images", "100"]
    pair += ["--num-test-images", "100", "--num-alphas", "3"]
    found = {}
    for name, asked in {"default": [], "asked": ["--corrections", "none", "temperature"]}.items():
        assert main([*pair, *asked, "--out", str(tmp_path / name)]) == 0
        curves = json.loads((tmp_path / name / "result.json").read_text())["curves"]
        found[name] = {curve["correction"] for curve in curves}
    assert "temperature" not in found["default"]
    assert found["asked"] == {"none", "temperature"}
    assert "calibrated" in capsys.readouterr().out
