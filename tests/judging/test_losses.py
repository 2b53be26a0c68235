"""Every loss, over every form of batch: the barrier is that of a plain loop with torch's reduction over all data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_cases import CASES, Case, Net, batches_of, same
from torch import Tensor
from torch.nn import functional as F

import rebasin_lt as rb
from rebasin_lt.connectivity.evaluation import evaluate
from rebasin_lt.connectivity.interpolation import interpolate
from rebasin_lt.connectivity.landscape import Plane, plane_losses
from rebasin_lt.errors import InputError
from rebasin_lt.feeding.calls import Fed
from rebasin_lt.judging.losses import LOSSES

ALPHAS = [0.0, 0.3, 0.5, 1.0]

FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tensor": lambda x, y: (x, y),
    "dict": lambda x, y: {"labels": y, "x": x},
    "tuple": lambda x, y: ((x,), y),
    "named": lambda x, y: {"seen": x, "wanted": y},
}


def given(form: str, batches: list[tuple[Tensor, Tensor]]) -> Any:
    formed = [FORMS[form](x, y) for x, y in batches]
    return Fed(formed, inputs={"x": "seen"}, targets="wanted") if form == "named" else formed


def plain(
    case: Case, ends: list[Net], batches: list[tuple[Tensor, Tensor]], curve: Callable[..., Tensor]
) -> list[float]:
    """The curve out of a loop over alphas, of all data at once."""
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    worker, values = Net(0, case.width, case.shape), []
    for alpha in ALPHAS:
        worker.load_state_dict(interpolate(*(end.state_dict() for end in ends), alpha))
        values.append(float(curve(worker(x).detach(), y)))
    return values


def test_every_loss_is_tested() -> None:
    assert list(CASES) == list(LOSSES)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_the_barrier_is_that_of_a_plain_loop(name: str, form: str) -> None:
    case = CASES[name]
    ends, batches = [Net(seed, case.width, case.shape) for seed in (1, 2)], batches_of(case)
    found = rb.loss_barrier(ends[0], *ends, given(form, batches), alphas=ALPHAS, loss=name)
    assert found.loss == pytest.approx(plain(case, ends, batches, case.loss), abs=1e-10)
    assert found.judged == LOSSES[name].judged(name)
    assert found.num_images == sum(case.count(labels) for _, labels in batches)
    if case.error is None:
        assert (found.error, found.error_barrier, found.error_excess_over_mean) == (None, None, None)
    else:
        assert found.error == pytest.approx(plain(case, ends, batches, case.error), abs=1e-10)
        assert found.error_barrier is not None
    assert max(found.loss) - min(found.loss) > 1e-3, "the test cannot tell"


@pytest.mark.parametrize("answer", [lambda out: {"logits": out}, lambda out: (out, "more")])
@pytest.mark.parametrize("name", CASES)
def test_answers_may_lie_in_dicts_and_tuples(name: str, answer: Callable[[Tensor], Any]) -> None:
    case = CASES[name]
    net, wrapped = (Net(1, case.width, shape) for shape in (case.shape, lambda out: answer(case.shape(out))))
    assert evaluate([net], batches_of(case), loss=name) == evaluate([wrapped], batches_of(case), loss=name)


@pytest.mark.parametrize("name", CASES)
def test_the_corners_of_a_plane_are_the_networks(name: str) -> None:
    case = CASES[name]
    nets, batches = [Net(seed, case.width, case.shape) for seed in range(3)], batches_of(case)
    plane = Plane(nets[0], *nets)
    found = plane_losses(nets[0], plane, plane.corners, batches, loss=name)
    expected = evaluate(nets, batches, loss=name)
    assert [point.loss for point in found] == pytest.approx([each.loss for each in expected], abs=1e-9)


@pytest.mark.parametrize("correction", ["repair", "closed_form", "rescale"])
@pytest.mark.parametrize("name", CASES)
def test_corrections_are_those_of_any_loss(name: str, correction: str) -> None:
    case = CASES[name]
    ends, batches = [Net(seed, case.width, case.shape) for seed in (1, 2)], batches_of(case)
    plain_, corrected = (
        rb.loss_barrier(ends[0], *ends, batches, alphas=3, loss=name, correction=each, correction_batches=batches)
        for each in ("none", correction)
    )
    assert corrected.loss[0] == pytest.approx(plain_.loss[0], abs=1e-6)
    assert corrected.loss[1] != pytest.approx(plain_.loss[1], abs=1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if name != "cross_entropy"])
def test_a_temperature_is_of_cross_entropy_alone(name: str) -> None:
    net = Net(1, 3, same)
    with pytest.raises(InputError, match=f"correction is 'temperature', which fits .*, but loss is {name}: leave out"):
        rb.loss_barrier(net, net, net, (), loss=name, correction="temperature", correction_batches=())


X = torch.randn(6, 5).double()
REFUSED: dict[str, tuple[str, Net, Tensor, Tensor, str]] = {
    "classes of pixels": ("pixel_cross_entropy", Net(0, 3, same), X, torch.zeros(6).long(), "that fit are cross_entro"),
    "other pixels": (
        "pixel_cross_entropy",
        Net(0, 3, lambda out: out.movedim(-1, 1)),
        X.expand(2, 2, 6, 5),
        torch.zeros(2, 6, 2).long(),
        r"expected integers, the index of each pixel's class or -100, of shape \(2, 2, 6\)",
    ),
    "floats for tokens": ("token_cross_entropy", Net(0, 3, same), X[None], torch.zeros(1, 6), "each token's class or"),
    "too few logits": ("token_cross_entropy", Net(0, 3, same), X, torch.zeros(6).long(), r"shape \(sequences, tokens"),
    "a label beyond the classes": (
        "token_cross_entropy",
        Net(0, 3, same),
        X[None],
        torch.full((1, 6), 255),
        "targets are from 255 to 255, but .* 3 classes apart: .* from 0 to 2, or -100 for what is to be ignored",
    ),
    "next of no sequence": ("next_token_cross_entropy", Net(0, 3, same), X, torch.zeros(6).long(), "logits of shape"),
    "labels of minus one": ("bce", Net(0, 3, same), X, -torch.ones(6, 3), "targets are from -1 to -1: expected labels"),
    "values of another shape": ("mse", Net(0, 3, same), X, torch.zeros(3, 6), r"such as targets \(6, 3\)"),
    "values that would be broadcast": ("mse", Net(0, 3, same), X, torch.zeros(6, 1), "answers and targets of one sha"),
    "integer answers": ("mse", Net(0, 3, Tensor.long), X, torch.zeros(6, 3), "expected floating answers, and targets"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_loss_is_not_of_is_refused_in_one_line(case: str) -> None:
    name, net, inputs, targets, message = REFUSED[case]
    with pytest.raises(InputError, match=f"^batches: loss is {name}, the network answers .*{message}") as error:
        rb.loss_barrier(net, net, net, [(inputs, targets)], loss=name)
    assert "\n" not in str(error.value)


def test_values_in_a_column_are_those_without_it() -> None:
    net, targets = Net(0, 1, same), torch.randn(6).double()
    expected = float(F.mse_loss(net(X).detach()[:, 0], targets))
    for column in (targets, targets[:, None]):
        (found,) = evaluate([net], [(X, column)], loss="mse")
        assert found.loss == pytest.approx(expected, abs=1e-12)


def test_a_label_that_no_batch_before_had_is_refused() -> None:
    net, labels = Net(0, 3, same), torch.zeros(6).long()
    for bad in (3, -100):
        with pytest.raises(InputError, match="expected indices of the 3 classes"):
            evaluate([net], [(X, labels), (X, labels + bad)])


def test_labels_that_are_all_ignored_are_refused() -> None:
    net = Net(0, 3, same)
    with pytest.raises(InputError, match="batches hold nothing that the loss token_cross_entropy counts"):
        evaluate([net], [(X[None], torch.full((1, 6), -100))], loss="token_cross_entropy")


def test_long_answers_are_worked_on_in_parts(monkeypatch) -> None:
    case = CASES["token_cross_entropy"]
    net, batches = Net(1, case.width, case.shape), batches_of(case)
    (together,) = evaluate([net], batches, loss="token_cross_entropy")
    monkeypatch.setattr("rebasin_lt.judging.measures._MOST", 7)
    (parts,) = evaluate([net], batches, loss="token_cross_entropy")
    assert parts.loss == pytest.approx(together.loss, abs=1e-12)
    assert parts[1:] == together[1:]
